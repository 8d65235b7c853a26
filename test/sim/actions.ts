// A fault as data: what strikes, where, how and for how long. Drawn from a seed, or written down by hand; carried out by the nemesis.

import type { Random } from "../../src/base/prng.ts";
import type { Fault } from "./options.ts";
import { between, pick } from "./world.ts";

export type Action = {
  readonly fault: Fault;
  /** The node that it strikes; where that is for the fault to say, a hint. */
  readonly node: number;
  /** The other node, of faults between two. */
  readonly peer: number;
  /** Which of its kinds. */
  readonly how: string;
  /** Milliseconds that it lasts; 0 where it is over at once. */
  readonly ms: number;
  /** How much of it, in the unit of the fault. */
  readonly amount: number;
  /** Decides what depends on what is there when it strikes: a page of a file, a partition. */
  readonly roll: number;
};

/** When it struck, or is to strike: virtual microseconds since the first storm began. */
export type Struck = { readonly atUs: number; readonly action: Action };

type Range = readonly [low: number, high: number];
type Kind = { readonly how?: readonly string[]; readonly ms?: Range; readonly amount?: Range };

/** Kinds of effects at which a process may end; "" = any. Those that are rare are the interesting ones. */
const EFFECTS = [
  "",
  "",
  "write",
  "sync",
  "sync folder",
  "open",
  "rename",
  "remove",
  "remove folder",
  "truncate",
  "batch",
  "batch, synced",
  "send",
  "connect",
  "close",
  "answer",
];

/** Who meets damage first: whoever reads there next, or the start of a process that ends right then. */
const MET = ["", "restart"];

/** What each fault draws. */
const KINDS: Readonly<Record<Fault, Kind>> = {
  kill: {},
  power: {},
  effect: { how: EFFECTS, amount: [1, 300] },
  pause: { ms: [50, 3_000] },
  cluster: { how: ["power", "power", "kill"] },
  partition: { how: ["random", "random", "leader", "halves", "ring", "bridge", "oneway", "flapping"], ms: [100, 6_000] },
  oneway: { ms: [100, 6_000] },
  // Milliseconds more.
  slownet: { ms: [100, 6_000], amount: [10, 400] },
  reset: {},
  stall: { ms: [100, 8_000] },
  halfopen: { how: ["both", "both", "one"] },
  // Percent of the frames, at most, of each kind.
  datagram: { ms: [500, 6_000], amount: [5, 40] },
  clientcut: { ms: [100, 5_000] },
  // Times as slow.
  slowdisk: { how: ["5", "50", "300"], ms: [200, 8_000] },
  stalldisk: { ms: [100, 12_000] },
  eio: { how: ["write", "write", "sync", "sync", "read"], amount: [1, 2] },
  deaddisk: { how: ["write", "any", "sync"], ms: [500, 8_000] },
  badsector: { how: MET },
  // KiB that are left.
  enospc: { ms: [500, 8_000], amount: [0, 600] },
  clock: { how: ["minutes", "minutes", "hours", "strobe"], ms: [500, 5_000] },
  wipe: {},
  bitrot: { how: MET },
  misdirect: { how: ["elsewhere", "nowhere", "copy"] },
  cutfile: { how: MET },
  kvhole: {},
  kvrot: {},
  kvdamage: {},
  transfer: {},
  move: {},
  topics: { how: ["", "", "again"] },
  drain: { how: ["leaders", "replicas"], ms: [1_000, 10_000] },
  forget: { ms: [2_000, 8_000] },
  upgrade: { how: ["install", "restart", "restart"] },
  ruin: { how: ["entries", "files", "disks", "stores"] },
};

export function drawAction(random: Random, fault: Fault, nodes: number): Action {
  const { how, ms, amount } = KINDS[fault];
  const node = between(random, 1, nodes);
  const peer = nodes === 1 ? node : 1 + ((node + random.below(nodes - 1)) % nodes);
  return {
    fault,
    node,
    peer,
    how: how === undefined ? "" : pick(random, how),
    ms: ms === undefined ? 0 : between(random, ...ms),
    amount: amount === undefined ? 0 : between(random, ...amount),
    roll: random.below(2 ** 32),
  };
}

/** Written by hand, with what does not matter left out. */
export function action(fault: Fault, given: Partial<Omit<Action, "fault">> = {}): Action {
  return { fault, node: 1, peer: 2, how: KINDS[fault].how?.[0] ?? "", ms: KINDS[fault].ms?.[0] ?? 0, amount: 1, roll: 1, ...given };
}
