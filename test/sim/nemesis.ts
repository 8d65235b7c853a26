// What goes wrong, and when. Damage that takes durable data away strikes one node, and only while every other one holds
// everything: so there is always a whole copy, and nothing may be lost. As damage may lie unnoticed for long, another node can
// be struck only once the first one was given an empty disk and has everything again.

import type { Random } from "../../src/base/prng.ts";
import { ask, TOPIC, type ClientParts } from "./clients.ts";
import { Violation } from "./history.ts";
import type { Fault, SimOptions } from "./options.ts";
import { DATA_DIR, type SimMachine } from "./sim-node.ts";
import type { SimNet } from "./sim-net.ts";
import { between, chance, pick, type World } from "./world.ts";

export type NemesisParts = {
  readonly options: SimOptions;
  readonly clients: ClientParts;
  readonly net: SimNet;
  /** Every node has all of what is committed, and nothing is under way to any. */
  readonly isWhole: () => boolean;
};

const CALL_MS = 10_000;

export class Nemesis {
  readonly counts = new Map<string, number>();
  private readonly parts: NemesisParts;
  private readonly world: World;
  private readonly random: Random;
  private readonly machines: readonly SimMachine[];
  private readonly enabled: readonly Fault[];
  private isOver = false;
  private topics = 0;
  /** The node whose disk may hold damage; null: nobody's does. */
  private victim: SimMachine | null = null;
  private readonly extraTopics: string[] = [];

  constructor(parts: NemesisParts) {
    this.parts = parts;
    this.world = parts.clients.world;
    this.random = this.world.fork();
    this.machines = parts.clients.machines;
    this.enabled = [...parts.options.faults];
  }

  start(): void {
    if (this.enabled.length > 0) this.later();
  }

  /** No more faults; what is broken is repaired, except what the nodes have to heal themselves. */
  stop(): void {
    this.isOver = true;
    this.parts.net.heal();
    for (const machine of this.machines) {
      Object.assign(machine.disk.mood, { slowness: 1, stalledUntilUs: 0, failsNext: false, capacityBytes: Number.POSITIVE_INFINITY });
      if (machine.life === null) continue;
      machine.life.pausedUntilUs = 0;
      machine.life.diesAtEffect = Number.POSITIVE_INFINITY;
    }
  }

  private later(): void {
    const everyUs = this.parts.options.faultEveryMs * 1_000;
    this.world.after(between(this.random, everyUs >> 2, 2 * everyUs), this.parts.clients.owner, "nemesis", () => {
      if (this.isOver) return;
      this.strike(pick(this.random, this.enabled));
      this.later();
    });
  }

  private strike(fault: Fault): void {
    const machine = pick(this.random, this.machines);
    const did = this.carryOut(fault, machine);
    if (!did) return;
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
    this.world.trace.note(this.world.nowUs, "nemesis", fault, machine.id, 0);
    this.parts.clients.note("nemesis", fault, { node: machine.id });
  }

  /** False when the fault cannot strike now. */
  private carryOut(fault: Fault, machine: SimMachine): boolean {
    const { random, world } = this;
    const { mood } = machine.disk;
    const { life } = machine;
    switch (fault) {
      case "kill":
      case "power":
        machine.crash(fault);
        return true;
      case "effect":
        if (life === null) return false;
        life.diesAtEffect = life.effects + between(random, 1, 300);
        life.diesHow = chance(random, 50) ? "kill" : "power";
        return true;
      case "pause":
        if (life === null) return false;
        life.pausedUntilUs = world.nowUs + between(random, 50, 3_000) * 1_000;
        return true;
      case "cluster": {
        const how = chance(random, 70) ? "power" : "kill";
        for (const one of this.machines) one.crash(how);
        return true;
      }
      case "partition":
        this.partition();
        return true;
      case "oneway":
        this.parts.net.cut(machine.name, pick(random, this.others(machine)).name);
        this.healLater();
        return true;
      case "slownet":
        this.parts.net.path(machine.name, pick(random, this.others(machine)).name).slowUs = between(random, 10, 400) * 1_000;
        this.healLater();
        return true;
      case "reset":
        this.parts.net.reset(machine.name, pick(random, this.others(machine)).name);
        return true;
      case "slowdisk":
        mood.slowness = pick(random, [5, 50, 300]);
        this.after(between(random, 200, 8_000), () => (mood.slowness = 1));
        return true;
      case "stalldisk":
        mood.stalledUntilUs = world.nowUs + between(random, 100, 8_000) * 1_000;
        return true;
      case "eio":
        mood.failsNext = true;
        return true;
      case "enospc":
        mood.capacityBytes = machine.disk.usedBytes + between(random, 0, 600) * 1024;
        this.after(between(random, 500, 8_000), () => (mood.capacityBytes = Number.POSITIVE_INFINITY));
        return true;
      case "clock":
        machine.wallOffsetMs = between(random, -1_800_000, 1_800_000);
        return true;
      case "wipe":
      case "bitrot":
      case "kvhole":
      case "kvrot":
      case "kvdamage":
        if (!this.parts.isWhole()) return false;
        // Whole and wiped is as good as new.
        return this.damage(fault, this.victim ?? machine);
      case "transfer":
      case "move":
      case "topics":
        this.order(fault);
        return true;
    }
  }

  private damage(fault: "wipe" | "bitrot" | "kvhole" | "kvrot" | "kvdamage", machine: SimMachine): boolean {
    const { random } = this;
    const store = machine.disk.stores.get(`${DATA_DIR}/store`);
    this.victim = fault === "wipe" ? null : machine;
    switch (fault) {
      case "wipe":
        machine.crash("power");
        machine.disk.wipe();
        return true;
      case "bitrot":
        return this.rot(machine);
      case "kvhole":
        if (store === undefined) return false;
        machine.crash("kill");
        return store.makeHole(random) > 0;
      case "kvrot":
        return store?.rot(random) ?? false;
      case "kvdamage":
        if (store === undefined) return false;
        store.damage = "a block of a table is damaged";
        return true;
    }
  }

  private rot(machine: SimMachine): boolean {
    const { random } = this;
    const paths = [...machine.disk.names.keys()].filter((path) => machine.disk.names.get(path)!.pages.size > 0).sort();
    if (paths.length === 0) return false;
    const path = pick(random, paths);
    const inode = machine.disk.names.get(path)!;
    const number = pick(random, inode.pageNumbers);
    if (inode.unsynced.size > 0 || inode.syncing.length > 0) return false;
    const page = Uint8Array.from(inode.pages.get(number)!);
    let used = page.length;
    while (used > 0 && page[used - 1] === 0) used -= 1;
    if (used === 0) return false;
    page[random.below(used)]! ^= 1 << random.below(8);
    inode.pages.set(number, page);
    this.parts.clients.note("nemesis", "a bit flips", { node: machine.id, path, page: number });
    return true;
  }

  private partition(): void {
    const { random, machines } = this;
    const { net } = this.parts;
    const side = new Set(machines.filter(() => chance(random, 50)));
    const isOneWay = chance(random, 25);
    for (const a of machines)
      for (const b of machines) {
        if (a === b || side.has(a) === side.has(b) || (isOneWay && side.has(a))) continue;
        net.cut(a.name, b.name);
      }
    this.healLater();
  }

  private healLater(): void {
    this.after(between(this.random, 100, 6_000), () => this.parts.net.heal());
  }

  private after(delayMs: number, callback: () => void): void {
    this.world.after(delayMs * 1_000, this.parts.clients.owner, "end of a fault", () => {
      if (!this.isOver) callback();
    });
  }

  private others(machine: SimMachine): SimMachine[] {
    return this.machines.filter((one) => one !== machine);
  }

  /** What an operator asks for. Whatever comes of it is right, as long as it is an answer. */
  private order(fault: "transfer" | "move" | "topics"): void {
    const { random } = this;
    const { clients, options } = this.parts;
    const target = { vhost: "", topic: TOPIC, partition: random.below(options.groups) };
    const done = (error: Error | null): void => {
      if (error !== null && "code" in error && error.code === "INTERNAL") throw new Violation("bug", `${fault}: ${error.stack}`);
    };
    const machine = pick(random, this.machines);
    if (fault === "transfer") {
      const topic = chance(random, 20) ? "" : TOPIC;
      ask(clients, machine, CALL_MS, (broker, signal) => broker.transferLeader({ ...target, topic, toNode: 0 }, signal), done);
    } else if (fault === "move") {
      const nodes = this.machines.map(({ id }) => id);
      while (nodes.length > 3) nodes.splice(random.below(nodes.length), 1);
      ask(clients, machine, CALL_MS, (broker, signal) => broker.moveReplicas({ ...target, nodes }, signal), done);
    } else this.orderTopics(machine, done);
  }

  private orderTopics(machine: SimMachine, done: (error: Error | null) => void): void {
    const { random, extraTopics } = this;
    const { clients, options } = this.parts;
    if (extraTopics.length === 0 || (extraTopics.length < 3 && chance(random, 50))) {
      const name = `x${this.topics++}`;
      extraTopics.push(name);
      const replicas = Math.min(3, options.nodes);
      ask(
        clients,
        machine,
        CALL_MS,
        (broker, signal) => broker.createTopic({ vhost: "", name, partitions: 1, replicas, config: {} }, signal),
        done,
      );
    } else if (chance(random, 40)) {
      const name = pick(random, extraTopics);
      ask(clients, machine, CALL_MS, (broker, signal) => broker.expandTopic("", name, between(random, 1, 3), signal), done);
    } else {
      const [name] = extraTopics.splice(random.below(extraTopics.length), 1);
      ask(clients, machine, CALL_MS, (broker, signal) => broker.deleteTopic("", name!, signal), done);
    }
  }
}
