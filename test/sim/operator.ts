// What an operator asks of the cluster, whatever else is going on: transfers, moves, topics, drained and forgotten nodes, another
// release. Whatever comes of an order is right, as long as it is an answer.

import { CATALOG_GROUP, type NodeId } from "../../src/base/ids.ts";
import { Prng, type Random } from "../../src/base/prng.ts";
import type { Broker } from "../../src/broker/types.ts";
import type { Action } from "./actions.ts";
import type { Atlas } from "./atlas.ts";
import { ask, TOPIC, type ClientParts } from "./clients.ts";
import { Violation } from "./history.ts";
import type { SimOptions } from "./options.ts";
import type { SimMachine } from "./sim-node.ts";
import { between, chance, pick } from "./world.ts";

const CALL_MS = 10_000;
const TOPICS_MAX = 3;
/** Between two looks at a node that is to be forgotten. */
const LOOK_MS = 500;

type Work = (broker: Broker, signal: AbortSignal) => Promise<unknown>;

export class Operator {
  private readonly clients: ClientParts;
  private readonly options: SimOptions;
  private readonly atlas: Atlas;
  private readonly felt: (what: string) => void;
  private topics = 0;
  private readonly extraTopics: string[] = [];
  /** The node that is being taken out of the cluster. */
  private leaving: SimMachine | null = null;

  constructor(parts: { clients: ClientParts; options: SimOptions; atlas: Atlas; felt: (what: string) => void }) {
    this.clients = parts.clients;
    this.options = parts.options;
    this.atlas = parts.atlas;
    this.felt = parts.felt;
  }

  /** False when there is nothing to ask for now. */
  order(action: Action): boolean {
    const random = new Prng(action.roll);
    const target = { vhost: "", topic: TOPIC, partition: random.below(this.options.groups) };
    switch (action.fault) {
      case "transfer": {
        const topic = chance(random, 20) ? "" : TOPIC;
        this.ask(random, action.fault, (broker, signal) => broker.transferLeader({ ...target, topic, toNode: 0 }, signal));
        return true;
      }
      case "move": {
        const nodes = this.clients.machines.map(({ id }) => id);
        while (nodes.length > 3) nodes.splice(random.below(nodes.length), 1);
        this.ask(random, action.fault, (broker, signal) => broker.moveReplicas({ ...target, nodes }, signal));
        return true;
      }
      case "drain":
        this.drain(action, random);
        return true;
      case "forget":
        return this.forget(action, random);
      case "upgrade":
        return this.upgrade(action);
      default:
        if (action.how === "again") this.makeAgain(random);
        else this.orderTopics(random);
        return true;
    }
  }

  /** Nothing is out of use any more. */
  stop(): void {
    const random = new Prng(1);
    for (const machine of this.clients.machines) {
      if (machine !== this.leaving) machine.isHeldDown = false;
      if (this.options.faults.has("drain") || this.options.faults.has("forget")) this.undrain(machine.id, random);
    }
  }

  private drain({ node, how, ms }: Action, random: Random): void {
    const moveReplicas = how === "replicas";
    this.ask(
      random,
      "drain",
      (broker, signal) => broker.drainNode({ node, drained: true, moveReplicas }, signal),
      () => this.felt("node drained"),
    );
    this.later(ms, () => this.undrain(node, random));
  }

  private undrain(node: number, random: Random): void {
    this.ask(random, "drain", (broker, signal) => broker.drainNode({ node, drained: false, moveReplicas: false }, signal));
  }

  private upgrade({ node, how }: Action): boolean {
    const machine = this.clients.machines[node - 1]!;
    if (machine.release === "next") return false;
    machine.release = "next";
    if (how === "restart") machine.crash("kill");
    return true;
  }

  /** Its replicas move away; then it is switched off and forgotten, and comes back with another disk. */
  private forget({ node, ms }: Action, random: Random): boolean {
    const machine = this.clients.machines[node - 1]!;
    if (this.leaving !== null || this.options.nodes < 4) return false;
    this.leaving = machine;
    this.ask(random, "forget", (broker, signal) => broker.drainNode({ node, drained: true, moveReplicas: true }, signal));
    this.later(ms, () => {
      if (this.atlas.heldBy(machine).some((group) => group !== CATALOG_GROUP) || !this.atlas.allows(machine, [CATALOG_GROUP])) {
        this.leaving = null;
        this.undrain(node, random);
        return;
      }
      this.atlas.note(machine, [CATALOG_GROUP], () => false);
      machine.isHeldDown = true;
      machine.crash("kill");
      this.forgetAgain(machine, random, Math.ceil(CALL_MS / LOOK_MS));
    });
    return true;
  }

  private forgetAgain(machine: SimMachine, random: Random, looks: number): void {
    if (this.isForgotten(machine)) {
      this.felt("node forgotten");
      machine.disk.wipe();
      this.atlas.wiped(machine);
    } else if (looks > 0) {
      const other = pick(
        random,
        this.clients.machines.filter((one) => one !== machine),
      );
      this.askAt(other, "forget", (broker, signal) => broker.forgetNode(machine.id, signal));
      this.later(LOOK_MS, () => this.forgetAgain(machine, random, looks - 1));
      return;
    }
    const isSure = machine.disk.names.size === 0;
    machine.isHeldDown = false;
    this.leaving = null;
    if (!isSure) this.watch(machine);
  }

  /** The order may be carried out late: whoever comes back with the disk of a forgotten node is told to come without. */
  private watch(machine: SimMachine, looks = 60): void {
    if (looks === 0) return;
    if (machine.disk.names.size > 0 && this.isForgotten(machine) && machine.host !== null) {
      this.felt("node forgotten late");
      machine.crash("kill");
      machine.disk.wipe();
      this.atlas.wiped(machine);
      return;
    }
    this.later(LOOK_MS, () => this.watch(machine, looks - 1));
  }

  private isForgotten({ id }: SimMachine): boolean {
    const catalog = this.atlas.catalog();
    return catalog !== null && catalog.node(id as NodeId) === undefined && catalog.wasForgotten(id as NodeId);
  }

  /** A topic is made, deleted, and made again with the same name: nothing of the first one may come back. */
  private makeAgain(random: Random): void {
    const name = `y${this.topics++}`;
    this.create(random, name, () => {
      this.ask(
        random,
        "topics",
        (broker, signal) => broker.deleteTopic("", name, signal),
        () => {
          this.felt("topic made again");
          this.create(random, name);
          this.extraTopics.push(name);
        },
      );
    });
  }

  private create(random: Random, name: string, done?: () => void): void {
    const call = { vhost: "", name, partitions: 1, replicas: Math.min(3, this.options.nodes), config: {} };
    this.ask(random, "topics", (broker, signal) => broker.createTopic(call, signal), done);
  }

  private orderTopics(random: Random): void {
    const { extraTopics } = this;
    if (extraTopics.length === 0 || (extraTopics.length < TOPICS_MAX && chance(random, 50))) {
      const name = `x${this.topics++}`;
      extraTopics.push(name);
      this.create(random, name);
    } else if (chance(random, 40)) {
      const name = pick(random, extraTopics);
      const partitions = between(random, 1, 3);
      this.ask(random, "topics", (broker, signal) => broker.expandTopic("", name, partitions, signal));
    } else {
      const [name] = extraTopics.splice(random.below(extraTopics.length), 1);
      this.ask(random, "topics", (broker, signal) => broker.deleteTopic("", name!, signal));
    }
  }

  private ask(random: Random, what: string, work: Work, done?: () => void): void {
    this.askAt(pick(random, this.clients.machines), what, work, done);
  }

  private askAt(machine: SimMachine, what: string, work: Work, done: () => void = () => {}): void {
    ask(this.clients, machine, CALL_MS, work, (error) => {
      if (error === null) done();
      else if ("code" in error && error.code === "INTERNAL") throw new Violation("bug", `${what}: ${error.stack}`);
    });
  }

  private later(delayMs: number, callback: () => void): void {
    this.clients.world.after(delayMs * 1_000, this.clients.owner, "operator", callback);
  }
}
