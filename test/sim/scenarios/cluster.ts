// A simulated cluster under a script's hand: nodes that start and end when the script says so, a load, faults at moments, and
// the same checks as in the swarm after every event. Nothing happens by itself but what the product does.

import { CATALOG_GROUP, type GroupId } from "../../../src/base/ids.ts";
import type { Broker } from "../../../src/broker/types.ts";
import type { CatalogMachine } from "../../../src/machine/catalog/catalog.ts";
import type { StreamMachine } from "../../../src/machine/stream/stream.ts";
import type { Replica } from "../../../src/replica/replica.ts";
import { action, type Action } from "../actions.ts";
import { ask, Producer, Reader, TOPIC, type ClientParts } from "../clients.ts";
import { History, Violation } from "../history.ts";
import { Nemesis } from "../nemesis.ts";
import { Observer } from "../observer.ts";
import { optionsOf, type Fault, type SimOptions } from "../options.ts";
import { ReplicaChecks } from "../replica-checks.ts";
import { describe, SimMachine, type Death } from "../sim-node.ts";
import { SimNet } from "../sim-net.ts";
import { lackOf } from "../whole.ts";
import { type Owner, World } from "../world.ts";

const LOOK_MS = 20;
const WITHIN_MS = 60_000;
const CALL_MS = 5_000;
const NOTES_KEPT = 400;

/** Everything calm and small, so that a script's own faults are all there is. */
const CALM: Partial<SimOptions> = {
  nodes: 3,
  groups: 4,
  producers: 1,
  readers: 1,
  thinkMs: 50,
  recordBytesMax: 200,
  segmentBytes: 64 * 1024,
  retentionBytes: 0,
  scrubPauseMs: 2_000,
  latencyUs: 200,
  jitterUs: 200,
  splitPercent: 5,
  electionTimeoutMs: 500,
};

type Work<T> = (broker: Broker, signal: AbortSignal) => Promise<T>;
export type Question<T> = { isOver: boolean; error: Error | null; value: T | null };

export class Cluster {
  readonly options: SimOptions;
  readonly world: World;
  readonly net: SimNet;
  readonly machines: SimMachine[] = [];
  readonly history = new History();
  readonly nemesis: Nemesis;
  private readonly checks: ReplicaChecks;
  private readonly observer: Observer;
  private readonly clients: ClientParts;
  private readonly notes: string[] = [];
  private producers: Producer[] = [];
  private readers: Reader[] = [];
  private clientsMade = 0;
  private failure: Error | null = null;

  constructor(given: Partial<SimOptions> = {}) {
    this.options = { ...optionsOf({ seed: given.seed ?? 1, faults: [] }), ...CALM, ...given };
    this.world = new World(this.options.seed);
    const { world, options } = this;
    this.checks = new ReplicaChecks(options.retentionBytes);
    const owner = this.eternal("script");
    this.net = new SimNet(world, world.fork(), options, this.eternal("net"));
    const note = (who: string, what: string, fields: object): void => {
      this.notes.push(`${world.nowMs.toFixed(3).padStart(12)} ms  ${who.padEnd(8)} ${what} ${JSON.stringify(fields)}`);
      if (this.notes.length > NOTES_KEPT) this.notes.shift();
    };
    const events = { note, bug: (who: string, error: Error) => this.fail(new Violation("bug", `${who} ended: ${describe(error)}`)) };
    for (let id = 1; id <= options.nodes; id++)
      this.machines.push(new SimMachine(id, { world, net: this.net, options, events, random: world.fork() }));
    this.clients = { world, machines: this.machines, history: this.history, owner, random: world.fork(), note };
    this.nemesis = new Nemesis({ options, clients: this.clients, net: this.net });
    this.observer = new Observer(
      this.machines,
      () => world.nowMs,
      (error) => this.fail(error),
      (machine) => this.nemesis.damage.atlas.struck.has(machine),
    );
    world.afterEvent = (ran) => this.look(ran);
  }

  /** A cluster that is ready, with the topic of the load. */
  static async start(given: Partial<SimOptions> = {}): Promise<Cluster> {
    const cluster = new Cluster(given);
    cluster.startNodes();
    await cluster.until("every node is ready", () => cluster.machines.every(({ broker }) => broker?.ready === true));
    const { groups, nodes, retentionBytes } = cluster.options;
    await cluster.createTopic(TOPIC, groups, Math.min(3, nodes), retentionBytes);
    await cluster.whole();
    return cluster;
  }

  node(id: number): SimMachine {
    return this.machines[id - 1]!;
  }

  startNodes(...ids: number[]): void {
    for (const machine of this.machines) if (ids.length === 0 || ids.includes(machine.id)) machine.start();
  }

  crash(how: Death, ...ids: number[]): void {
    for (const id of ids) this.node(id).crash(how);
  }

  pause(ms: number, ...ids: number[]): void {
    for (const id of ids) this.node(id).life!.pausedUntilUs = this.world.nowUs + ms * 1_000;
  }

  /** Nothing gets through between the nodes and all others until the returned function is called. */
  isolate(...ids: number[]): () => void {
    const undos: (() => void)[] = [];
    for (const inside of ids)
      for (const other of this.machines)
        if (!ids.includes(other.id))
          undos.push(this.net.cut(this.node(inside).name, other.name), this.net.cut(other.name, this.node(inside).name));
    return () => {
      for (const undo of undos) undo();
    };
  }

  fault(fault: Fault, given: Partial<Omit<Action, "fault">> = {}): boolean {
    return this.nemesis.strike(action(fault, given));
  }

  /** Lets so much virtual time pass. */
  async run(ms: number): Promise<void> {
    await this.world.run(this.world.nowUs + ms * 1_000, () => this.failure !== null);
    this.check();
  }

  /** Lets time pass until it holds; fails when that takes longer than `withinMs`. Resolves with how long it took. */
  async until(what: string, condition: () => boolean, withinMs = WITHIN_MS): Promise<number> {
    const sinceMs = this.world.nowMs;
    for (;;) {
      this.check();
      if (condition()) return this.world.nowMs - sinceMs;
      if (this.world.nowMs - sinceMs >= withinMs)
        throw this.told(new Violation("R9", `did not happen within ${withinMs} virtual ms: ${what}`));
      await this.world.run(this.world.nowUs + LOOK_MS * 1_000, () => this.failure !== null);
    }
  }

  /** Every node is up and has everything, every group is led and has the members that it is to have. */
  async whole(withinMs = WITHIN_MS): Promise<number> {
    let lack = "";
    try {
      return await this.until("the cluster is whole", () => (lack = lackOf(this.machines)) === "", withinMs);
    } catch (error) {
      (error as Error).message += `; ${lack}`;
      throw error;
    }
  }

  /** Idempotent producers and readers on every partition. */
  load(): void {
    const { options, clients } = this;
    const knobs = { thinkMs: options.thinkMs, bytesMax: options.recordBytesMax };
    for (let partition = 0; partition < options.groups; partition++) {
      for (let count = 0; count < options.producers; count++)
        this.producers.push(new Producer(++this.clientsMade, partition, clients, knobs));
      for (let count = 0; count < options.readers; count++) this.readers.push(new Reader(++this.clientsMade, partition, clients, true));
    }
    for (const client of [...this.producers, ...this.readers]) client.start();
  }

  get acked(): number {
    return this.history.counts.acked;
  }

  /** The load brings what it began to its end; then everything is read back and must be there. */
  async verify(): Promise<void> {
    for (const producer of this.producers) producer.stop();
    await this.until("every batch is acknowledged", () => this.producers.every(({ isIdle }) => isIdle));
    await this.whole();
    for (const reader of this.readers) reader.stop();
    const { options, history, clients } = this;
    const fresh = Array.from({ length: options.groups }, (_, partition) => new Reader(1_000, partition, clients, false));
    for (const reader of fresh) reader.start();
    await this.until("everything is read back", () =>
      fresh.every((reader) => reader.position >= history.endKnown(TOPIC, reader.partition)),
    );
    for (const reader of fresh) {
      reader.stop();
      history.complete(TOPIC, reader.partition, reader.position);
      const [lost] = history.missing(TOPIC, reader.partition, reader.seen);
      if (lost !== undefined)
        throw this.told(new Violation("L0", `the acknowledged batch at ${lost.offset} of ${reader.partition} is gone`));
    }
    this.producers = [];
    this.readers = [];
  }

  /** Asks a node, and lets time pass until it answers; rejects with its error, or with one that says that there was no answer. */
  async call<T>(id: number, work: Work<T>, timeoutMs = CALL_MS): Promise<T> {
    const question = this.ask(id, work, timeoutMs);
    await this.until("an answer", () => question.isOver, timeoutMs + 1_000);
    if (question.error !== null) throw question.error;
    return question.value!;
  }

  /** Asks a node; the answer comes while time passes. */
  ask<T>(id: number, work: Work<T>, timeoutMs = CALL_MS): Question<T> {
    const question: Question<T> = { isOver: false, error: null, value: null };
    ask(this.clients, this.node(id), timeoutMs, work, (error, value) => Object.assign(question, { isOver: true, error, value }));
    return question;
  }

  async createTopic(name: string, partitions: number, replicas: number, retentionBytes = 0, asked = 1): Promise<void> {
    const config = retentionBytes > 0 ? { retentionBytes } : {};
    const call = { vhost: "", name, partitions, replicas, config };
    await this.call(asked, (broker, signal) => broker.createTopic(call, signal), 20_000);
  }

  /** Publishes one record through a node; `producer`: its id, epoch and sequence. Resolves with its offset. */
  async publish(id: number, topic: string, text: string, producer: readonly [number, number, number] = [0, 0, 0]): Promise<number> {
    return this.call(id, (broker) => publishing(broker, topic, batchOf(text), producer));
  }

  /** All records of partition 0, as texts, asked of a node. */
  async read(id: number, topic: string): Promise<string[]> {
    const texts: string[] = [];
    for (let offset = 0; ;) {
      const positions = [{ partition: 0, from: 0 as const, value: offset }];
      const call = { vhost: "", topic, positions, maxBytes: 1_000_000, maxWaitMs: 0, direct: false };
      const [part] = await this.call(id, (broker, signal) => broker.fetch(call, signal));
      if (part!.error !== null) throw part!.error;
      if (part!.batches.length === 0) return texts;
      for (const { records } of part!.batches) texts.push(textOf(records));
      offset = part!.nextOffset;
    }
  }

  /** The group of a partition of the load's topic. */
  groupOf(partition: number, topic = TOPIC): GroupId {
    return this.catalog.topic("/", topic)!.partitions[partition]!.group;
  }

  /** The catalog as the node that has applied most knows it. */
  get catalog(): CatalogMachine {
    return this.nemesis.damage.atlas.catalog()!;
  }

  replica(id: number, group: GroupId): Replica | undefined {
    return this.node(id).host?.get(group);
  }

  stream(id: number, partition: number): StreamMachine {
    return this.replica(id, this.groupOf(partition))!.machine as StreamMachine;
  }

  /** Nodes that lead the group, as they themselves believe. */
  leaders(group: GroupId): number[] {
    return this.machines.filter((machine) => machine.host?.get(group)?.isLeader === true).map(({ id }) => id);
  }

  /** Waits until a node leads it, and resolves with which one; of several the newest. */
  async leader(group: GroupId = CATALOG_GROUP, among: readonly number[] = this.machines.map(({ id }) => id)): Promise<number> {
    const newest = (): number | undefined =>
      this.leaders(group)
        .filter((id) => among.includes(id))
        .sort((a, b) => this.replica(b, group)!.raft.term - this.replica(a, group)!.raft.term)[0];
    await this.until(`group ${group} is led`, () => newest() !== undefined);
    return newest()!;
  }

  others(...ids: number[]): number[] {
    return this.machines.map(({ id }) => id).filter((id) => !ids.includes(id));
  }

  /** What nodes said, by a part of the words. */
  said(part: string): string[] {
    return this.notes.filter((note) => note.includes(part));
  }

  private look(owner: Owner): void {
    const machine = this.machines.find(({ life }) => life === owner);
    const host = machine?.host ?? null;
    try {
      if (host === null) return;
      this.checks.look(machine!.name, host.groups());
      this.observer.look(machine!, host);
    } catch (error) {
      this.fail(error as Error);
    }
  }

  private check(): void {
    if (this.failure !== null) throw this.told(this.failure);
  }

  /** With what was said before it. */
  private told(error: Error): Error {
    if (!error.message.includes("--- before")) error.message += `\n--- before\n${this.notes.slice(-60).join("\n")}`;
    return error;
  }

  private eternal(name: string): Owner {
    return { name, isDead: false, pausedUntilUs: 0, failed: (error) => this.fail(error) };
  }

  private fail(error: Error): void {
    this.failure ??= error;
  }
}

/** A RecordBatch of one record with this value. */
export function batchOf(text: string): Uint8Array {
  const value = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x0a, value.length + 2, 0x12, value.length]), value]);
}

function textOf(records: Uint8Array): string {
  return Buffer.from(records.subarray(4)).toString();
}

/** Partition 0. */
export function publishing(
  broker: Broker,
  topic: string,
  records: Uint8Array,
  [producerId, producerEpoch, sequence]: readonly [number, number, number],
): Promise<number> {
  const call = {
    vhost: "",
    topic,
    partition: 0,
    partitionKey: null,
    records,
    count: 1,
    producerId,
    producerEpoch,
    sequence,
    direct: false,
    exchange: null,
    routingKey: "",
  };
  return new Promise((resolve, reject) =>
    broker.publish(call, (error, _partition, offset) => (error === null ? resolve(offset) : reject(error))),
  );
}
