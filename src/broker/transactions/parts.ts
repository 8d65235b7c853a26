// The parts that do the work of transactions on one node, put together.

import { gatewayOf, type GroupId } from "../../base/ids.ts";
import { TRANSACTIONS_BYTES_MAX, TRANSACTIONS_PER_VHOST_MAX } from "../../base/limits.ts";
import type { Logger } from "../../base/logger.ts";
import type { TopicRow } from "../../machine/catalog/catalog.ts";
import type { ExchangePublisher } from "../exchange-publisher.ts";
import { TRANSACTIONS_QUEUE } from "../reserved.ts";
import type { WorkParts } from "../work/parts.ts";
import { Book, type BookComponents } from "./book.ts";
import { Executor } from "./executor.ts";
import { Planner } from "./planner.ts";
import { Recoverer } from "./recoverer.ts";
import { Sweeper } from "./sweeper.ts";
import { Transactions } from "./transactions.ts";
import type { BrokerError } from "../../base/errors.ts";

/** Nothing is ever given out of it; names are found by their hashes, which are kept with the order of keys. */
const SETTINGS = {
  deliveryLimit: 0,
  keyOrder: true,
  maxMessages: TRANSACTIONS_PER_VHOST_MAX,
  maxBytes: TRANSACTIONS_BYTES_MAX,
  overflow: "reject-publish",
} as const;

export type TransactionPartsComponents = Omit<BookComponents, "operator" | "reader" | "declare"> & {
  readonly incarnation: number;
  readonly work: WorkParts;
  readonly exchanges: ExchangePublisher;
  readonly logger: Logger;
  readonly topicOf: (vhost: string, name: string) => TopicRow | BrokerError;
  readonly checkVhost: (vhost: string) => Promise<void>;
};

export class TransactionParts {
  readonly book: Book;
  readonly transactions: Transactions;
  readonly sweeper: Sweeper;
  private readonly recoverer: Recoverer;

  constructor(components: TransactionPartsComponents) {
    const { nodeId, incarnation, host, work, exchanges, clock, logger, topicOf, viewIsCurrent, checkVhost } = components;
    const { operator, reader, queues } = work;
    const declare = (vhost: string, signal: AbortSignal): Promise<void> => queues.declareOwn(vhost, TRANSACTIONS_QUEUE, SETTINGS, signal);
    this.book = new Book({ ...components, operator, reader, declare });
    const executor = new Executor({ ...components, operator });
    this.recoverer = new Recoverer({ host, book: this.book, executor, clock, logger });
    this.sweeper = new Sweeper({ host, book: this.book, clock });
    const planner = new Planner({ exchanges, clock, topicOf, viewIsCurrent, groupsOf: (target) => queues.groupsOf(target) });
    const producerId = gatewayOf(nodeId, incarnation);
    this.transactions = new Transactions({ book: this.book, planner, executor, clock, producerId, checkVhost });
  }

  /** Something was applied in a group led here that has work subscriptions. */
  look(group: GroupId, { name }: TopicRow): void {
    this.sweeper.look(group);
    if (name === TRANSACTIONS_QUEUE) this.recoverer.look(group);
  }
}
