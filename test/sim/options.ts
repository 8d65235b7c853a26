// What one seed means: each class of faults is on or off, and every knob stands somewhere else.

import { Prng } from "../../src/base/prng.ts";
import { between, chance, pick } from "./world.ts";

const FIRST_FAULTS = [
  "kill",
  "power",
  "effect",
  "pause",
  "cluster",
  "partition",
  "oneway",
  "slownet",
  "reset",
  "slowdisk",
  "stalldisk",
  "eio",
  "enospc",
  "wipe",
  "bitrot",
  "kvhole",
  "kvrot",
  "kvdamage",
  "clock",
  "transfer",
  "move",
  "topics",
] as const;
/** Drawn after all the rest, so that a seed's other options stay what they were. */
const LATER_FAULTS = [
  "stall",
  "halfopen",
  "datagram",
  "clientcut",
  "deaddisk",
  "badsector",
  "misdirect",
  "cutfile",
  "drain",
  "forget",
  "upgrade",
] as const;
export const FAULTS = [...FIRST_FAULTS, ...LATER_FAULTS] as const;
/** `ruin` belongs to the hopeless mode alone. */
export type Fault = (typeof FAULTS)[number] | "ruin";

/** Of so many seeds one is hopeless. */
const HOPELESS_ONE_IN = 25;
const ENDS_DARK_PERCENT = 60;
const FLOOD_PERCENT = 15;

export type SimOptions = {
  readonly seed: number;
  readonly nodes: number;
  readonly groups: number;
  /** Queues beside the topic's partitions, each with another one for its dead letters. */
  readonly queues: number;
  /** Clients that run transactions, over queues of their own. */
  readonly transactions: number;
  /** Times that faults and the whole load set in, and virtual seconds that each lasts. */
  readonly storms: number;
  readonly seconds: number;
  /** Virtual seconds after each without new faults, and with little load or none: what is broken is to heal, groups come to rest. */
  readonly calmSeconds: number;
  /** Producers, and readers, per hundred that go on through a calm. */
  readonly steadyPercent: number;
  readonly faults: ReadonlySet<Fault>;
  /**
   * Damage strikes a majority, once: from then on the cluster may refuse whatever it wants, and nothing that it serves or
   * acknowledges may be wrong.
   */
  readonly hopeless: boolean;
  /** At the end, once all is healed, the whole cluster loses power, and is read back only when it has come again. */
  readonly endsDark: boolean;
  /** Once, more than a partition may take in is sent to one (flood.ts). */
  readonly floods: boolean;
  /** Mean time between two faults. */
  readonly faultEveryMs: number;
  readonly producers: number;
  readonly readers: number;
  /** Mean pause of a producer between two batches. */
  readonly thinkMs: number;
  readonly recordBytesMax: number;
  readonly segmentBytes: number;
  readonly retentionBytes: number;
  readonly scrubPauseMs: number;
  readonly latencyUs: number;
  readonly jitterUs: number;
  readonly splitPercent: number;
  readonly tickMs: number;
  readonly electionTimeoutMs: number;
};

/** `seconds`: one storm, of so many virtual seconds, and no calm. */
export type GivenOptions = {
  readonly seed: number;
  readonly nodes?: number;
  readonly groups?: number;
  readonly queues?: number;
  readonly transactions?: number;
  readonly seconds?: number;
  readonly faults?: readonly Fault[];
  readonly hopeless?: boolean;
  readonly floods?: boolean;
};

export function optionsOf(given: GivenOptions): SimOptions {
  const random = new Prng(given.seed ^ 0x5eed);
  const later = new Prng(given.seed ^ 0xfa017);
  const on: Fault[] = FIRST_FAULTS.filter(() => chance(random, 50));
  for (const fault of LATER_FAULTS) if (chance(later, 50)) on.push(fault);
  const isHopeless = later.below(HOPELESS_ONE_IN) === 0;
  const electionTimeoutMs = pick(random, [300, 500, 500, 1_000]);
  return {
    seed: given.seed,
    nodes: given.nodes ?? pick(random, [3, 3, 3, 4, 5]),
    groups: given.groups ?? 8,
    queues: given.queues ?? pick(new Prng(given.seed ^ 0x9e0e), [0, 0, 1, 1]),
    transactions: given.transactions ?? pick(new Prng(given.seed ^ 0x7a5a), [0, 0, 2]),
    ...phasesOf(given),
    faults: new Set(given.faults ?? on),
    hopeless: given.hopeless ?? (given.faults === undefined && isHopeless),
    floods: given.floods ?? chance(new Prng(given.seed ^ 0xf100d), FLOOD_PERCENT),
    endsDark: chance(new Prng(given.seed ^ 0xdac), ENDS_DARK_PERCENT),
    faultEveryMs: pick(random, [400, 1_000, 2_000, 4_000]),
    producers: between(random, 1, 3),
    readers: between(random, 1, 3),
    thinkMs: pick(random, [100, 300, 1_000]),
    // With the larger ones streams reach their retention, and logs are cut.
    recordBytesMax: pick(random, [20, 200, 4_000, 8_000]),
    segmentBytes: pick(random, [64, 64, 128, 1_024]) * 1024,
    retentionBytes: pick(random, [0, 0, 20_000, 200_000]),
    scrubPauseMs: pick(random, [2_000, 10_000, 30_000]),
    latencyUs: pick(random, [50, 200, 2_000]),
    jitterUs: pick(random, [10, 500, 5_000]),
    splitPercent: pick(random, [0, 5, 30]),
    tickMs: 50,
    electionTimeoutMs,
  };
}

/** Drawn apart, so that a seed's other options stay what they were. */
function phasesOf({ seed, seconds }: GivenOptions): Pick<SimOptions, "storms" | "seconds" | "calmSeconds" | "steadyPercent"> {
  const random = new Prng(seed ^ 0xca1b);
  const phases = {
    storms: between(random, 2, 3),
    seconds: between(random, 15, 25),
    calmSeconds: between(random, 40, 70),
    steadyPercent: pick(random, [0, 0, 10, 25]),
  };
  return seconds === undefined ? phases : { ...phases, storms: 1, seconds, calmSeconds: 0 };
}

export function describeOptions(options: SimOptions): string {
  return JSON.stringify({ ...options, faults: [...options.faults] });
}
