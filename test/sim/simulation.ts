// One seed, from the first start of a cluster to the last check.

import type { Struck } from "./actions.ts";
import { ask, Producer, Reader, TOPIC, type ClientParts, type Pace } from "./clients.ts";
import { decayOn } from "./decay.ts";
import { floodOf } from "./flood.ts";
import { History, Violation } from "./history.ts";
import { freeze, spared } from "./liveness.ts";
import { Nemesis } from "./nemesis.ts";
import type { SimOptions } from "./options.ts";
import { Observer } from "./observer.ts";
import { QueueLoad } from "./queue-load.ts";
import { TransactionLoad } from "./transaction-load.ts";
import { ReplicaChecks } from "./replica-checks.ts";
import { describe, SimLife, SimMachine, slowRoundMs } from "./sim-node.ts";
import { SimNet } from "./sim-net.ts";
import { NOTHING_SPENT, spentSince, spentSoFar, sumOf, type Spent } from "./spent.ts";
import { lackOf } from "./whole.ts";
import { between, chance, type Owner, World } from "./world.ts";

/** Virtual time after which a cluster without faults must have done everything. */
const LIVENESS_MS = 60_000;
/** How long a cluster that lost too much is watched, and then asked. */
const REFUSING_MS = 20_000;
const LOOK_MS = 100;
/** Between two looks at all that is on the disks. */
const DECAY_LOOK_MS = 2_000;
const NOTES_KEPT = 200;

export type SimResult = {
  readonly seed: number;
  readonly failure: Error | null;
  readonly hash: string;
  readonly events: number;
  readonly virtualMs: number;
  readonly spent: Spent;
  /** Of both what went by in storms: the most costly part. */
  readonly storms: { readonly virtualMs: number; readonly spent: Spent };
  readonly nodes: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly faults: ReadonlyMap<string, number>;
  /** How often nodes wrote down what. */
  readonly said: ReadonlyMap<string, number>;
  /** All that was tried, for a run that does the same instead of drawing. */
  readonly schedule: readonly Struck[];
  /** How long the cluster took to be whole after the last fault, in virtual ms. */
  readonly healedMs: number;
  /** The newest of what nodes and faults said, and of what happened. */
  readonly notes: readonly string[];
  readonly trace: readonly string[];
};

export class Simulation {
  private readonly options: SimOptions;
  private readonly world: World;
  private readonly history = new History();
  private readonly checks: ReplicaChecks;
  private readonly observer: Observer;
  readonly machines: SimMachine[] = [];
  private readonly restarting = new Set<SimMachine>();
  private readonly producers: Producer[] = [];
  private readonly readers: Reader[] = [];
  private readonly queues: QueueLoad;
  private readonly transactions: TransactionLoad;
  private readonly notes: { atMs: number; who: string; what: string; fields: object }[] = [];
  private readonly nemesis: Nemesis;
  private readonly clients: ClientParts;
  private readonly pace: Pace = { isCalm: false };
  private readonly storms = { virtualMs: 0, spent: NOTHING_SPENT };
  private failure: Error | null = null;
  private healedMs = -1;
  /** What the cluster still lacks; for the message when it never gets it. */
  private lacking = "";

  /** `schedule`: the faults of another run, instead of those that the seed would draw. */
  constructor(options: SimOptions, schedule: readonly Struck[] | null = null) {
    this.options = options;
    const world = new World(options.seed);
    this.world = world;
    this.checks = new ReplicaChecks(options.retentionBytes);
    const owner = this.eternal("client");
    const net = new SimNet(world, world.fork(), options, this.eternal("net"));
    const events = {
      note: this.note,
      bug: (who: string, error: Error) =>
        this.fail(error instanceof Violation ? error : new Violation("bug", `${who} ended: ${describe(error)}`)),
    };
    for (let id = 1; id <= options.nodes; id++)
      this.machines.push(new SimMachine(id, { world, net, options, events, random: world.fork() }));
    this.clients = { world, machines: this.machines, history: this.history, owner, random: world.fork(), pace: this.pace, note: this.note };
    this.queues = new QueueLoad(options, this.clients);
    this.transactions = new TransactionLoad(options, this.clients);
    this.nemesis = new Nemesis({ options, clients: this.clients, net, schedule });
    this.observer = new Observer(
      this.machines,
      () => world.nowMs,
      (error) => this.fail(error),
      (machine) => this.nemesis.damage.atlas.struck.has(machine),
    );
    world.afterEvent = (ran) => this.look(ran);
  }

  async run(): Promise<SimResult> {
    const began = spentSoFar();
    try {
      await this.phases();
    } catch (error) {
      this.fail(error as Error);
    }
    const { world, history, options } = this;
    return {
      seed: options.seed,
      failure: this.failure,
      hash: world.trace.hash,
      events: world.events,
      virtualMs: world.nowMs,
      spent: spentSince(began),
      storms: this.storms,
      nodes: options.nodes,
      counts: {
        ...history.counts,
        ...this.queues.counts(),
        ...this.transactions.counts(),
        digestsCompared: this.checks.compared,
        restarts: this.machines.reduce((sum, { lives }) => sum + lives - 1, 0),
      },
      faults: this.nemesis.counts,
      said: saidBy(this.machines),
      schedule: this.nemesis.tried,
      healedMs: this.healedMs,
      notes: this.notes.map(
        ({ atMs, who, what, fields }) => `${atMs.toFixed(3).padStart(12)} ms  ${who.padEnd(8)} ${what} ${JSON.stringify(fields)}`,
      ),
      trace: world.trace.newest(),
    };
  }

  private async phases(): Promise<void> {
    const { world, machines, clients, options } = this;
    for (const machine of machines) world.after(between(world.random, 1, 200_000), clients.owner, "power on", () => machine.start());
    await this.until("the cluster is ready", () => machines.every(({ broker }) => broker?.ready === true));
    await this.createTopic();
    await this.until("the queues are made", () => this.queues.create() && this.transactions.create());
    this.startLoad();
    await this.weather();
    this.nemesis.stop();
    if (!this.nemesis.isRuined) await this.withoutOne();
    for (const producer of this.producers) producer.stop();
    this.queues.stop();
    this.transactions.stop();
    if (this.nemesis.isRuined) {
      await this.refuse();
      return;
    }
    const sinceMs = world.nowMs;
    await this.until("every batch is acknowledged and every node has everything", () => {
      const waiting = this.producers.find(({ isIdle }) => !isIdle);
      this.lacking =
        waiting === undefined
          ? this.queues.waiting || this.transactions.waiting || lackOf(this.machines)
          : `a batch for ${TOPIC}/${waiting.partition} has no answer: ${waiting.lastFailure}; ${lackOf(this.machines)}`;
      return this.lacking === "";
    });
    this.healedMs = world.nowMs - sinceMs;
    this.compareAll();
    await this.withoutDecay();
    if (options.endsDark) await this.inTheDark();
    await this.until("every queue is empty", () => {
      const isDone = this.queues.drained();
      this.lacking = this.queues.lacking;
      return isDone;
    });
    this.queues.end();
    await this.until("every transaction is over", () => {
      const isDone = this.transactions.drained();
      this.lacking = this.transactions.lacking;
      return isDone;
    });
    await this.readBack();
  }

  /** What was damaged on some disk and still counts is found and healed by itself, though nobody reads it. */
  private async withoutDecay(): Promise<void> {
    const { world, machines, options } = this;
    if (this.nemesis.damage.atlas.struck.size === 0) return;
    let nextMs = world.nowMs;
    const isHealed = (): boolean => {
      if (world.nowMs < nextMs) return false;
      nextMs = world.nowMs + DECAY_LOOK_MS;
      this.lacking = machines.map(decayOn).find((decay) => decay !== "") ?? lackOf(machines);
      return this.lacking === "";
    };
    // A round may just have passed it by: so there is time for two.
    const roundMs = options.scrubPauseMs + Math.max(...machines.map(({ disk }) => slowRoundMs(disk, options.groups)));
    await this.until("all damage is healed", isHealed, LIVENESS_MS + 2 * roundMs);
  }

  /** All machines lose power at one time: what comes back must be what was there (RPO 0), in the same state. */
  private async inTheDark(): Promise<void> {
    this.note("end", "all machines lose power", {});
    for (const machine of this.machines) machine.crash("power");
    await this.until("all is back after a loss of power", () => {
      this.lacking = lackOf(this.machines);
      return this.lacking === "";
    });
    this.compareAll();
  }

  private compareAll(): void {
    for (const { name, host } of this.machines) if (host !== null) this.checks.compare(name, host.groups());
  }

  /** Storms with faults and all of the load, and a calm after each. */
  private async weather(): Promise<void> {
    const { world, options, nemesis, pace } = this;
    const isOver = (): boolean => this.failure !== null;
    for (let storm = 0; storm < options.storms && !isOver(); storm++) {
      const [sinceMs, began] = [world.nowMs, spentSoFar()];
      pace.isCalm = false;
      for (const client of [...this.producers, ...this.readers]) client.resume();
      nemesis.start();
      await world.run(world.nowUs + options.seconds * 1_000_000, isOver);
      this.storms.virtualMs += world.nowMs - sinceMs;
      this.storms.spent = sumOf(this.storms.spent, spentSince(began));
      if (options.calmSeconds === 0) continue;
      pace.isCalm = true;
      nemesis.rest();
      await world.run(world.nowUs + options.calmSeconds * 1_000_000, isOver);
    }
    pace.isCalm = false;
  }

  /** One node stays as it is or worse, the others are healed: everybody who wants to publish must get through to them. */
  private async withoutOne(): Promise<void> {
    const { world, machines, clients, producers, pace } = this;
    // Who was damaged before may be on its way back from it, and needs a majority of the others for that.
    const { damaged, struck } = this.nemesis.damage.atlas;
    const needy = lackOf(machines) === "" ? damaged : [...new Set([...damaged, ...struck])];
    const machine = spared(machines, needy, clients.random);
    if (machine === null) return;
    pace.isCalm = false;
    for (const client of [...producers, ...this.readers]) client.resume();
    const thaw = freeze(machine, { world, owner: clients.owner, random: clients.random });
    this.note("end", "one node stays away", { node: machine.id });
    const before = producers.map(({ acked }) => acked);
    await this.until(`every producer is served while ${machine.name} is away`, () => {
      const waiting = producers.find(({ once, acked }, at) => !once && acked === before[at]);
      this.lacking = waiting === undefined ? "" : `partition ${waiting.partition}: ${waiting.lastFailure}`;
      return this.lacking === "";
    });
    thaw();
  }

  /** Runs until the condition holds; a failure when it does not within that virtual time. */
  private async until(what: string, condition: () => boolean, withinMs = LIVENESS_MS): Promise<void> {
    const { world } = this;
    let holds = false;
    const look = (): void => {
      holds = condition();
      if (!holds) world.after(LOOK_MS * 1_000, this.clients.owner, "look", look);
    };
    world.after(LOOK_MS * 1_000, this.clients.owner, "look", look);
    await world.run(world.nowUs + withinMs * 1_000, () => holds || this.failure !== null);
    if (!holds && this.failure === null)
      this.fail(
        new Violation("R9", `did not happen within ${withinMs} virtual ms: ${what}${this.lacking === "" ? "" : `; ${this.lacking}`}`),
      );
    if (this.failure !== null) throw this.failure;
  }

  private async createTopic(): Promise<void> {
    const { options, machines } = this;
    let isMade = false;
    const config = options.retentionBytes > 0 ? { retentionBytes: options.retentionBytes } : {};
    const call = { vhost: "", name: TOPIC, partitions: options.groups, replicas: Math.min(3, options.nodes), config };
    const tryIt = (): void =>
      ask(
        this.clients,
        machines[0]!,
        20_000,
        (broker, signal) => broker.createTopic(call, signal),
        (error) => {
          isMade = error === null;
          if (!isMade) tryIt();
        },
      );
    tryIt();
    await this.until("the topic is made", () => isMade);
  }

  private startLoad(): void {
    const { options, clients } = this;
    const isSteady = (): boolean => chance(clients.random, options.steadyPercent);
    const { thinkMs, recordBytesMax: bytesMax } = options;
    for (let partition = 0; partition < options.groups; partition++) {
      for (let id = 1; id <= options.producers; id++)
        this.producers.push(new Producer(id, partition, clients, { thinkMs, bytesMax, isSteady: isSteady() }));
      for (let id = 1; id <= options.readers; id++) this.readers.push(new Reader(id, partition, clients, true, isSteady()));
    }
    for (const client of [...this.producers, ...this.readers]) client.start();
    this.queues.start();
    this.transactions.start();
    if (!options.floods) return;
    const flood = floodOf(options.seed, options.groups, clients);
    this.producers.push(...flood.producers);
    this.world.after(flood.atMs * 1_000, clients.owner, "flood", () => {
      for (const producer of flood.producers) producer.start();
    });
  }

  /** A majority is damaged: nothing need be served, and whatever is must be right. New readers ask for all of it, everywhere. */
  private async refuse(): Promise<void> {
    const { world, options, clients } = this;
    await world.run(world.nowUs + REFUSING_MS * 1_000, () => this.failure !== null);
    for (const reader of this.readers) reader.stop();
    for (let partition = 0; partition < options.groups; partition++) new Reader(1_000, partition, clients, false).start();
    await world.run(world.nowUs + REFUSING_MS * 1_000, () => this.failure !== null);
  }

  /** Everything that is held is read once more, by readers that begin at the start. */
  private async readBack(): Promise<void> {
    const { options, clients, history } = this;
    for (const reader of this.readers) reader.stop();
    const fresh = Array.from({ length: options.groups }, (_, partition) => new Reader(1_000, partition, clients, false));
    for (const reader of fresh) reader.start();
    await this.until("everything is read back", () =>
      fresh.every((reader) => reader.position >= history.endKnown(TOPIC, reader.partition)),
    );
    for (const reader of fresh) {
      reader.stop();
      history.complete(TOPIC, reader.partition, reader.position);
      history.retained(TOPIC, reader.partition, options.retentionBytes);
      const [lost] = history.missing(TOPIC, reader.partition, reader.seen);
      if (lost !== undefined)
        throw new Violation("L0", `the acknowledged batch at ${lost.offset} of ${TOPIC}/${reader.partition} is not there`);
    }
  }

  /** After each event: the replicas of the node that it belonged to, and nodes whose process is gone. */
  private look(owner: Owner): void {
    if (this.failure !== null) return;
    try {
      if (owner instanceof SimLife && owner.machine.life === owner && owner.host !== null) {
        const { host, machine } = owner;
        this.checks.look(owner.name, this.observer.look(machine, host));
        // Machines that differ are found by the checks: what the product finds beyond is no difference, or one that they do not see.
        if (host.comparisons.mismatches > 0) throw new Violation("R4", `${owner.name} found replicas that differ`);
      }
    } catch (error) {
      this.fail(error as Error);
    }
    for (const one of this.machines) {
      if (one.isUp || one.lives === 0 || this.restarting.has(one)) continue;
      this.restarting.add(one);
      this.world.after(between(this.clients.random, 20_000, 4_000_000), this.clients.owner, "restart", () => {
        this.restarting.delete(one);
        one.start();
      });
    }
  }

  private readonly note = (who: string, what: string, fields: object): void => {
    this.notes.push({ atMs: this.world.nowMs, who, what, fields });
    if (this.notes.length > NOTES_KEPT) this.notes.shift();
  };

  private eternal(name: string): Owner {
    return { name, isDead: false, pausedUntilUs: 0, failed: (error) => this.fail(error) };
  }

  private fail(error: Error): void {
    this.failure ??= error;
  }
}

function saidBy(machines: readonly SimMachine[]): Map<string, number> {
  const said = new Map<string, number>();
  for (const machine of machines) for (const [what, times] of machine.said) said.set(what, (said.get(what) ?? 0) + times);
  return said;
}
