// What goes wrong, and when: actions drawn from a seed, each carried out as it says. What it strikes and what of it is felt is
// counted; see actions.ts for what there is, atlas.ts for how much may be damaged.

import { Prng, type Random } from "../../src/base/prng.ts";
import type { GroupId } from "../../src/base/ids.ts";
import { drawAction, type Action, type Struck } from "./actions.ts";
import type { ClientParts } from "./clients.ts";
import { cutsOf } from "./cuts.ts";
import { Damage } from "./damage.ts";
import { Operator } from "./operator.ts";
import type { Fault, SimOptions } from "./options.ts";
import { ruin } from "./ruin.ts";
import { GOOD_MOOD } from "./sim-disk.ts";
import type { SimMachine } from "./sim-node.ts";
import type { SimNet } from "./sim-net.ts";
import { between, chance, pick, type SimEvent, type World } from "./world.ts";

export type NemesisParts = {
  readonly options: SimOptions;
  readonly clients: ClientParts;
  readonly net: SimNet;
  /** What to do instead of what would be drawn. */
  readonly schedule?: readonly Struck[] | null;
};

const FLAP_MS = 300;
const STROBE_MS = 50;
const MINUTES_MS = 30 * 60_000;
/** Less than producers are remembered for without a batch: a clock that is a day ahead makes a leader forget them, by its own log's time. */
const HOURS_MS = 11 * 3_600_000;

export class Nemesis {
  /** How often each fault struck, and what of them was felt. */
  readonly counts = new Map<string, number>();
  /** All that was tried, whether it could strike or not. */
  readonly tried: Struck[] = [];
  readonly damage: Damage;
  /** In the hopeless mode: a majority is damaged. */
  isRuined = false;
  private readonly parts: NemesisParts;
  private readonly world: World;
  private readonly random: Random;
  private readonly machines: readonly SimMachine[];
  private readonly enabled: readonly Fault[];
  private readonly operator: Operator;
  private isOver = false;
  private next: SimEvent | null = null;
  /** When the first storm began; -1 before. */
  private beganUs = -1;

  constructor(parts: NemesisParts) {
    this.parts = parts;
    this.world = parts.clients.world;
    this.random = this.world.fork();
    this.machines = parts.clients.machines;
    this.enabled = [...parts.options.faults];
    this.damage = new Damage(this.machines, (what, fields) => parts.clients.note("nemesis", what, fields));
    const felt = (what: string): void => this.count(`felt: ${what}`);
    const { clients, options, net } = parts;
    this.operator = new Operator({ clients, options, atlas: this.damage.atlas, felt });
    net.felt = felt;
    net.mayShuffle = options.faults.has("datagram");
    for (const machine of this.machines) {
      machine.felt = felt;
      machine.disk.felt = felt;
    }
  }

  /** Strikes again and again from now on. */
  start(): void {
    const { options, schedule = null } = this.parts;
    if (this.beganUs < 0) this.beganUs = this.world.nowUs;
    if (schedule !== null) this.laterOf(schedule);
    else if (this.enabled.length > 0) this.later();
    if (schedule === null && options.hopeless && !this.isRuined) this.ruinSoon();
  }

  /** Strikes no more for now; what it has done takes its course. */
  rest(): void {
    this.next?.cancel();
    this.next = null;
  }

  /** No more faults; what is broken is repaired, except what the nodes have to heal themselves. */
  stop(): void {
    this.isOver = true;
    this.rest();
    this.parts.net.heal();
    this.operator.stop();
    for (const machine of this.machines) {
      Object.assign(machine.disk.mood, GOOD_MOOD);
      machine.clientCuts = 0;
      if (machine.life === null) continue;
      machine.life.pausedUntilUs = 0;
      machine.life.diesAt = null;
    }
  }

  /** Carries it out now; false when it cannot strike. */
  strike(action: Action): boolean {
    if (!this.carryOut(action)) return false;
    const { fault, node, how, amount } = action;
    this.count(fault);
    this.world.trace.note(this.world.nowUs, "nemesis", `${fault} ${how}`, node, amount);
    this.parts.clients.note("nemesis", fault, action);
    return true;
  }

  private later(): void {
    const everyUs = this.parts.options.faultEveryMs * 1_000;
    this.next = this.world.after(between(this.random, everyUs >> 2, 2 * everyUs), this.parts.clients.owner, "nemesis", () => {
      this.try(drawAction(this.random, pick(this.random, this.enabled), this.machines.length));
      this.later();
    });
  }

  /** Takes the same events as drawing does, so that the schedule of a run makes the same run. */
  private laterOf(schedule: readonly Struck[]): void {
    const next = schedule[this.tried.length];
    if (next === undefined) return;
    this.next = this.world.after(this.beganUs + next.atUs - this.world.nowUs, this.parts.clients.owner, "nemesis", () => {
      this.try(next.action);
      this.laterOf(schedule);
    });
  }

  private try(action: Action): boolean {
    this.tried.push({ atUs: this.world.nowUs - this.beganUs, action });
    return this.strike(action);
  }

  /** Some time in the first half, so that there is enough to damage, and enough time to see what comes of it. */
  private ruinSoon(): void {
    const everyUs = Math.max(1, this.parts.options.seconds >> 2) * 1_000_000;
    this.world.after(between(this.random, everyUs, 2 * everyUs), this.parts.clients.owner, "nemesis", () => {
      if (!this.isOver && !this.try(drawAction(this.random, "ruin", this.machines.length))) this.ruinSoon();
    });
  }

  private count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  private carryOut(action: Action): boolean {
    const machine = this.machines[action.node - 1]!;
    switch (action.fault) {
      case "kill":
      case "power":
      case "effect":
      case "pause":
      case "cluster":
      case "clock":
        return this.strikeProcess(action, machine);
      case "partition":
      case "oneway":
      case "slownet":
      case "reset":
      case "stall":
      case "halfopen":
      case "datagram":
      case "clientcut":
        return this.strikeNet(action, machine);
      case "slowdisk":
      case "stalldisk":
      case "eio":
      case "deaddisk":
      case "enospc":
        return this.strikeDisk(action, machine);
      case "wipe":
      case "bitrot":
      case "badsector":
      case "misdirect":
      case "cutfile":
      case "kvhole":
      case "kvrot":
      case "kvdamage":
        return !this.isRuined && this.damage.strike(action);
      case "transfer":
      case "move":
      case "topics":
      case "drain":
      case "forget":
      case "upgrade":
        return this.operator.order(action);
      case "ruin": {
        const done = ruin(this.machines, action);
        this.isRuined = done.length > 0;
        for (const what of done) this.parts.clients.note("nemesis", what, {});
        return this.isRuined;
      }
    }
  }

  private strikeProcess({ fault, how, ms, amount, roll }: Action, machine: SimMachine): boolean {
    const random = new Prng(roll);
    const { life } = machine;
    switch (fault) {
      case "effect":
        if (life === null) return false;
        life.diesAt = {
          kind: how,
          moment: chance(random, 50) ? "before" : "after",
          left: how === "" ? amount : 1 + (amount % 7),
          how: chance(random, 50) ? "kill" : "power",
        };
        return true;
      case "pause":
        if (life === null) return false;
        life.pausedUntilUs = this.world.nowUs + ms * 1_000;
        return true;
      case "cluster":
        for (const one of this.machines) one.crash(how === "power" ? "power" : "kill");
        return true;
      case "clock":
        this.strikeClock(machine, how, ms, random);
        return true;
      default:
        machine.crash(fault === "power" ? "power" : "kill");
        return true;
    }
  }

  private strikeClock(machine: SimMachine, how: string, ms: number, random: Random): void {
    const rangeMs = how === "hours" ? HOURS_MS : MINUTES_MS;
    const offsetMs = random.below(2 * rangeMs) - rangeMs;
    machine.wallOffsetMs = offsetMs;
    if (how !== "strobe") return;
    const untilUs = this.world.nowUs + ms * 1_000;
    const strobe = (): void => {
      machine.wallOffsetMs = machine.wallOffsetMs === 0 ? offsetMs : 0;
      if (this.world.nowUs < untilUs) this.after(STROBE_MS, strobe);
    };
    this.after(STROBE_MS, strobe);
  }

  private strikeNet(action: Action, machine: SimMachine): boolean {
    const { net } = this.parts;
    const { fault, how, ms, amount, roll } = action;
    const random = new Prng(roll);
    const peer = this.machines[action.peer - 1]!;
    switch (fault) {
      case "partition":
        this.partition(how, ms, random);
        return true;
      case "oneway": {
        const undo = net.cut(machine.name, peer.name);
        this.after(ms, undo);
        return true;
      }
      case "slownet": {
        const path = net.path(machine.name, peer.name);
        path.slowUs = amount * 1_000;
        this.after(ms, () => (path.slowUs = 0));
        return true;
      }
      case "reset":
        net.reset(machine.name, peer.name);
        return true;
      case "stall":
      case "halfopen": {
        const sockets = net.between(machine.name, peer.name);
        if (sockets.length === 0) return false;
        const socket = pick(random, sockets);
        if (fault === "stall") socket.stalledUntilUs = this.world.nowUs + ms * 1_000;
        else socket.isHalfOpen = true;
        if (fault === "halfopen" && how === "both" && socket.other !== null) socket.other.isHalfOpen = true;
        return true;
      }
      case "datagram":
        net.shuffle = { lost: random.below(amount), doubled: random.below(amount), overtaken: random.below(amount) };
        this.after(ms, () => (net.shuffle = null));
        return true;
      default:
        machine.clientCuts += 1;
        this.after(ms, () => (machine.clientCuts = Math.max(0, machine.clientCuts - 1)));
        return true;
    }
  }

  private partition(how: string, ms: number, random: Random): void {
    const { machines } = this;
    const leader = how === "leader" ? this.leaderOfSome(random) : 0;
    const cut = (shape: string): (() => void) => {
      const undos = cutsOf(shape, machines.length, leader, random).map(([from, to]) =>
        this.parts.net.cut(machines[from]!.name, machines[to]!.name),
      );
      return () => {
        for (const undo of undos) undo();
      };
    };
    if (how !== "flapping") {
      this.after(ms, cut(how));
      return;
    }
    const untilUs = this.world.nowUs + ms * 1_000;
    const flap = (): void => {
      this.after(between(random, FLAP_MS >> 1, FLAP_MS), cut("random"));
      if (this.world.nowUs < untilUs) this.after(2 * FLAP_MS, flap);
    };
    flap();
  }

  /** The place of the node that leads a group drawn by chance. */
  private leaderOfSome(random: Random): number {
    const led: [group: GroupId, place: number][] = [];
    for (const [place, { host }] of this.machines.entries())
      for (const { group, isLeader } of host?.groups() ?? []) if (isLeader) led.push([group, place]);
    led.sort(([a, x], [b, y]) => a - b || x - y);
    return led.length === 0 ? 0 : pick(random, led)[1];
  }

  private strikeDisk({ fault, how, ms, amount, roll }: Action, machine: SimMachine): boolean {
    const { disk } = machine;
    const { mood } = disk;
    switch (fault) {
      case "slowdisk":
        mood.slowness = Number(how);
        this.after(ms, () => (mood.slowness = 1));
        return true;
      case "stalldisk":
        mood.stalledUntilUs = this.world.nowUs + ms * 1_000;
        return true;
      case "enospc":
        mood.capacityBytes = disk.usedBytes + amount * 1024;
        this.after(ms, () => (mood.capacityBytes = Number.POSITIVE_INFINITY));
        return true;
      case "eio":
        // What cannot be read is taken for damaged.
        if (how === "read" && (this.isRuined || !this.damage.takeAll(machine, () => mood.failing !== null))) return false;
        mood.failing = { calls: how as "read" | "write" | "sync", times: amount };
        return true;
      default:
        return this.killDisk(how, ms, machine, new Prng(roll));
    }
  }

  /** Every such call fails from now on, until somebody repairs the drive, or puts another one in. */
  private killDisk(how: string, ms: number, machine: SimMachine, random: Random): boolean {
    const { mood } = machine.disk;
    if (mood.failing !== null || this.isRuined || !this.damage.takeAll(machine, () => mood.failing !== null)) return false;
    mood.failing = { calls: how as "write" | "sync" | "any", times: Number.POSITIVE_INFINITY };
    this.after(ms, () => {
      mood.failing = null;
      if (chance(random, 50) && !this.isRuined) this.damage.wipe(machine);
    });
    return true;
  }

  private after(delayMs: number, callback: () => void): void {
    this.world.after(delayMs * 1_000, this.parts.clients.owner, "end of a fault", () => {
      if (!this.isOver) callback();
    });
  }
}
