// Transactions in a simulated cluster: three queues of their own, clients throughout, and a judgement once nothing is under way any more.

import type { Broker } from "../../src/broker/types.ts";
import { ask, type ClientParts } from "./clients.ts";
import type { SimOptions } from "./options.ts";
import { idsIn } from "./queue-clients.ts";
import { SOURCE, TransactionClient, TX_QUEUES } from "./transaction-clients.ts";
import { TransactionHistory, type Ids } from "./transaction-history.ts";
import { pick } from "./world.ts";

const CALL_MS = 20_000;
const THINK_MS_MIN = 200;

export class TransactionLoad {
  private readonly clients: ClientParts;
  private readonly history = new TransactionHistory();
  private readonly load: TransactionClient[];
  private readonly made = new Set<string>();
  private asking = false;
  private isQuiet = false;
  private isJudged = false;
  lacking = "";

  constructor(options: SimOptions, clients: ClientParts) {
    this.clients = clients;
    const thinkMs = Math.max(THINK_MS_MIN, options.thinkMs);
    this.load = Array.from({ length: options.transactions }, (_, at) => new TransactionClient(at + 1, clients, this.history, thinkMs));
  }

  /** True once all queues are there; to be asked again until then. */
  create(): boolean {
    const name = this.load.length === 0 ? undefined : TX_QUEUES.find((one) => !this.made.has(one));
    if (name === undefined) return true;
    const replicas = Math.min(3, this.clients.machines.length);
    this.once(
      (broker, signal) => broker.queues.create({ vhost: "", name, replicas, durability: 0, settings: { deliveryLimit: 0 } }, signal),
      () => void this.made.add(name),
    );
    return false;
  }

  start(): void {
    for (const client of this.load) client.start();
  }

  stop(): void {
    for (const client of this.load) client.stop();
  }

  /** A transaction that nobody has answered yet; "" when there is none. */
  get waiting(): string {
    const waiting = this.load.find(({ isIdle }) => !isIdle);
    return waiting === undefined ? "" : `a transaction has no answer: ${waiting.lastFailure}`;
  }

  /** True once nothing is under way, and all that is there is as it must be. */
  drained(): boolean {
    if (!this.isQuiet)
      this.once(
        (broker, signal) => this.look(broker, signal),
        (lacking) => {
          this.lacking = lacking;
          this.isQuiet = lacking === "";
        },
      );
    else if (!this.isJudged)
      this.once(
        (broker, signal) => this.read(broker, signal),
        (found) => {
          this.history.complete(found, SOURCE);
          this.isJudged = true;
        },
      );
    return this.isJudged || this.load.length === 0;
  }

  counts(): Record<string, number> {
    return this.load.length === 0 ? {} : { ...this.history.counts };
  }

  private async look(broker: Broker, signal: AbortSignal): Promise<string> {
    const { transactions } = await broker.transactions.list({ vhost: "", from: 0, max: 1 }, signal);
    if (transactions.length > 0) return `transaction ${transactions[0]!.id} is not over: ${JSON.stringify(transactions[0])}`;
    const { counts } = (await broker.queues.describe("", SOURCE, signal)).queue;
    return counts!.leased + counts!.delayed > 0 ? `${SOURCE} has ${counts!.leased} messages that somebody holds` : "";
  }

  private async read(broker: Broker, signal: AbortSignal): Promise<Map<string, Ids>> {
    const found = new Map<string, Ids>();
    for (const queue of TX_QUEUES) found.set(queue, await idsIn(broker, queue, signal));
    return found;
  }

  /** Asks some node, one question at a time; what fails is asked again by whoever asks for the condition. */
  private once<T>(work: (broker: Broker, signal: AbortSignal) => Promise<T>, done: (value: T) => void): void {
    if (this.asking) return;
    this.asking = true;
    const { machines, random } = this.clients;
    ask(this.clients, pick(random, machines), CALL_MS, work, (error, value) => {
      this.asking = false;
      if (error === null) done(value!);
      else if (error.name === "Violation") throw error;
      else this.lacking = error.message;
    });
  }
}
