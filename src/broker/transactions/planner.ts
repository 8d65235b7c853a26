// What a transaction comes to: records by the queue or partition that they are for, and messages by their lease. Exchanges are routed here,
// once, by this node's view, so that whoever carries it out, and however often, brings everything to the same places.

import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { GroupId } from "../../base/ids.ts";
import {
  BATCH_BYTES_MAX,
  BATCH_RECORDS_MAX,
  TRANSACTION_NAME_LENGTH_MAX,
  TRANSACTION_PARTS_MAX,
  TRANSACTION_TARGETS_MAX,
  TRANSACTION_TIMEOUT_MS_MAX,
} from "../../base/limits.ts";
import type { TopicRow } from "../../machine/catalog/catalog.ts";
import { encodeSidecar } from "../../machine/work/sidecar.ts";
import { vhostOf } from "../admin.ts";
import { partsOf, type ExchangePublisher, type Share } from "../exchange-publisher.ts";
import { checkBatch, hashKey } from "../publisher.ts";
import { factRuns, scanRecords, type ScannedRecord } from "../record-scan.ts";
import { checkNotReserved } from "../reserved.ts";
import { faultOf } from "../work/checks.ts";
import { operationOf } from "../work/session.ts";
import { OUTCOME_EXTEND, type Settlement, type WorkTarget } from "../work/types.ts";
import type { HeldPart, TargetPart, TransactCall, TransactionPublish, TransactionSettle } from "./types.ts";

export type PlannerComponents = {
  readonly exchanges: ExchangePublisher;
  readonly clock: Clock;
  readonly topicOf: (vhost: string, name: string) => TopicRow | BrokerError;
  /** The partitions of a queue, or of a topic that has the subscription; throws BrokerError. */
  readonly groupsOf: (target: WorkTarget) => readonly { readonly group: GroupId; readonly partition: number }[];
  /** Resolves once this node knows of everything that was there at the call. */
  readonly viewIsCurrent: () => Promise<void>;
};
export type Plan = { readonly targets: readonly TargetPart[]; readonly held: readonly HeldPart[] };

type Gathered = { readonly topic: TopicRow; readonly partition: number; readonly records: ScannedRecord[]; readonly parts: Uint8Array[] };

export class Planner {
  private readonly components: PlannerComponents;
  /** Chooses the partition of records without a key. */
  private keyless = 0;

  constructor(components: PlannerComponents) {
    this.components = components;
  }

  /** Rejects with BrokerError when some part cannot be: then there is no transaction. */
  async plan(call: TransactCall): Promise<Plan> {
    const fault = faultOfCall(call);
    if (fault !== null) throw fault;
    try {
      return this.planned(call);
    } catch (error) {
      // What is not known here may be there all the same.
      if (!(error instanceof BrokerError) || !error.code.startsWith("UNKNOWN_")) throw error;
      await this.components.viewIsCurrent();
      return this.planned(call);
    }
  }

  private planned(call: TransactCall): Plan {
    const gathered = new Map<GroupId, Gathered>();
    let bytes = 0;
    for (const publish of call.publishes)
      for (const share of this.sharesOf(call.vhost, publish)) {
        const { topic, partition, records } = share;
        const { group } = topic.partitions[partition]!;
        let one = gathered.get(group);
        if (one === undefined) gathered.set(group, (one = { topic, partition, records: [], parts: [] }));
        for (const record of records) {
          one.records.push(record);
          bytes += record.end - record.start;
        }
        if (bytes > BATCH_BYTES_MAX) throw tooLarge();
        one.parts.push(...partsOf(publish.records, records));
      }
    if (gathered.size > TRANSACTION_TARGETS_MAX)
      throw invalid(`a transaction may publish to ${TRANSACTION_TARGETS_MAX} queues and partitions, not ${gathered.size}`);
    const targets = [...gathered].map(([group, one]) => targetOf(group, one));
    return { targets, held: call.settles.flatMap((settle) => this.heldOf(call.vhost, settle)) };
  }

  private sharesOf(vhost: string, publish: TransactionPublish): readonly Share[] {
    const count = checkBatch(publish);
    if (count instanceof BrokerError) throw count;
    if (publish.exchange === null) return this.topicShares(vhost, publish);
    const { records, routingKey } = publish;
    const routed = this.components.exchanges.shares({ vhost, records, routingKey, producerId: 0, sequence: 0 }, publish.exchange);
    if (routed instanceof BrokerError) throw routed;
    if (publish.mandatory && routed.unroutable.length > 0)
      throw new BrokerError(
        "UNROUTABLE",
        `nothing is bound to exchange "${publish.exchange}" for ${routed.unroutable.length} of the records`,
      );
    return routed.shares;
  }

  private topicShares(vhost: string, { topic: name, partition, partitionKey, records }: TransactionPublish): readonly Share[] {
    checkNotReserved(name);
    const topic = this.components.topicOf(vhostOf(vhost), name);
    if (topic instanceof BrokerError) throw topic;
    const partitions = topic.partitions.length;
    if (partition >= partitions)
      throw new BrokerError("UNKNOWN_PARTITION", `topic ${topic.name} has partitions 0..${partitions - 1}, not ${partition}`);
    const scanned = scanRecords(records, false, this.components.clock.wallMs());
    if (scanned instanceof BrokerError) throw scanned;
    if (partition >= 0) return [{ topic, partition, records: scanned }];
    if (partitionKey !== null) return [{ topic, partition: hashKey(partitionKey) % partitions, records: scanned }];
    this.keyless = (this.keyless + 1) % 0x4000_0000;
    const shares = new Map<number, Share>();
    for (const record of scanned) {
      const at = (record.keyHash === 0 ? this.keyless : record.keyHash) % partitions;
      const share = shares.get(at);
      if (share === undefined) shares.set(at, { topic, partition: at, records: [record] });
      else share.records.push(record);
    }
    return [...shares.values()];
  }

  private heldOf(vhost: string, { queue, subscription, settlements }: TransactionSettle): HeldPart[] {
    checkNotReserved(queue);
    const groups = this.components.groupsOf({ vhost, queue, subscription });
    return settlements.map((settlement) => {
      const fault = settlementFault(settlement);
      if (fault !== null) throw fault;
      const { partition, firstOffset: from, count, token, consumer } = settlement;
      const part = groups.find((one) => one.partition === partition);
      if (part === undefined) throw new BrokerError("UNKNOWN_PARTITION", `there is no partition ${partition} of ${queue}`);
      const operation = operationOf(settlement, subscription, consumer);
      if (operation.op !== "settle") throw invalid("a lease is not extended in a transaction");
      return { group: part.group, queue, subscription, partition, consumer, token, from, end: from + count, outcome: operation.outcome };
    });
  }
}

function targetOf(group: GroupId, { topic, partition, records, parts }: Gathered): TargetPart {
  if (records.length > BATCH_RECORDS_MAX)
    throw new BrokerError("BATCH_TOO_LARGE", `a transaction may have ${BATCH_RECORDS_MAX} records for one queue or partition`);
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  const sidecar = encodeSidecar(factRuns(records));
  return { group, name: topic.name, partition, count: records.length, sidecar, records: joined };
}

function settlementFault(settlement: Settlement): BrokerError | null {
  if (settlement.outcome === OUTCOME_EXTEND) return invalid("a lease is not extended in a transaction");
  if (settlement.consumer === 0) return invalid("the consumer of the delivery is missing");
  return faultOf(settlement);
}

function faultOfCall({ publishes, settles, timeoutMs, name, isPrepared }: TransactCall): BrokerError | null {
  const parts = publishes.length + settles.reduce((sum, { settlements }) => sum + settlements.length, 0);
  if (parts > TRANSACTION_PARTS_MAX) return invalid(`a transaction may have ${TRANSACTION_PARTS_MAX} parts, not ${parts}`);
  if (parts === 0) return invalid("a transaction has at least one publish or settlement");
  if (!Number.isInteger(timeoutMs) || timeoutMs < 0 || timeoutMs > TRANSACTION_TIMEOUT_MS_MAX)
    return invalid(`timeout_ms must be 0..${TRANSACTION_TIMEOUT_MS_MAX} (a day), not ${timeoutMs}`);
  if (name.length > TRANSACTION_NAME_LENGTH_MAX) return invalid(`name must have at most ${TRANSACTION_NAME_LENGTH_MAX} characters`);
  if (name !== "" && !isPrepared) return invalid("only a transaction that is prepared has a name");
  return null;
}

export function tooLarge(): BrokerError {
  return new BrokerError(
    "BATCH_TOO_LARGE",
    `a transaction may have ${BATCH_BYTES_MAX} bytes, counted for each queue and partition that they go to; make it smaller`,
  );
}

export function invalid(message: string): BrokerError {
  return new BrokerError("INVALID_ARGUMENT", message);
}
