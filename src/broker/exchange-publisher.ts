// Publish to an exchange: every record goes where its routing key, its headers and this node's view of the bindings lead, and the publish is
// acknowledged once every target has what it is to have. Tried again, each target tells by producer and sequence what it has already.

import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { NAME_LENGTH_MAX, ROUTES_PER_BATCH_MAX, ROUTING_KEY_LENGTH_MAX } from "../base/limits.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { CatalogMachine, TopicRow } from "../machine/catalog/catalog.ts";
import { quoted } from "../machine/names.ts";
import type { RoutingTable } from "../machine/routing/routing-table.ts";
import { STREAM_DUPLICATE, STREAM_OK } from "../machine/stream/codes.ts";
import { encodeSidecar } from "../machine/work/sidecar.ts";
import { ENTRY_RECORDS } from "../raft/types.ts";
import { unknownVhost, vhostOf } from "./admin.ts";
import { streamError } from "./publisher.ts";
import { factRuns, scanRecords, type ScannedRecord } from "./record-scan.ts";
import { recordsPayload } from "./records-payload.ts";
import { isReserved } from "./reserved.ts";
import type { Router } from "./router.ts";
import type { PublishCall, PublishDone } from "./types.ts";

export type ExchangePublisherComponents = {
  readonly router: Router;
  readonly memory: PayloadMemory;
  readonly catalog: CatalogMachine;
  readonly clock: Clock;
};

/** What one partition is to get of a batch. */
export type Share = { readonly topic: TopicRow; readonly partition: number; readonly records: ScannedRecord[] };

export class ExchangePublisher {
  private readonly components: ExchangePublisherComponents;
  /** Chooses the partition of records without a key, of one batch. */
  private keyless = 0;

  constructor(components: ExchangePublisherComponents) {
    this.components = components;
  }

  /** What is not known here, if anything is; else `done` is called. `count` is how many records the batch has. */
  tryPublish(call: PublishCall, exchange: string, count: number, done: PublishDone): BrokerError | null {
    const { catalog } = this.components;
    const vhost = vhostOf(call.vhost);
    // Every vhost has a table of its own, made when it is asked for: nobody is to make one by a name alone.
    if (!catalog.declarations.hasVhost(vhost)) return unknownVhost(vhost);
    if (!catalog.declarations.routingOf(vhost).hasExchange(exchange)) return unknownExchange(exchange);
    const routed = this.shares(call, exchange);
    if (routed instanceof BrokerError) done(routed, 0, -1, 0, false);
    else this.store(call, routed.shares, routed.unroutable, count, done);
    return null;
  }

  /** Which partitions would get what of it by this node's view, and the places of records that would go nowhere. */
  shares(
    call: Pick<PublishCall, "vhost" | "records" | "routingKey" | "producerId" | "sequence">,
    exchange: string,
  ): { shares: Share[]; unroutable: number[] } | BrokerError {
    const { catalog, clock } = this.components;
    const vhost = vhostOf(call.vhost);
    const table = catalog.declarations.routingOf(vhost);
    if (!table.hasExchange(exchange)) return unknownExchange(exchange);
    const records = scanRecords(call.records, table.looksAtHeaders, clock.wallMs());
    const fault = records instanceof BrokerError ? records : keyFault(call.routingKey);
    return fault ?? this.route(table, vhost, exchange, call, records as ScannedRecord[]);
  }

  private route(
    table: RoutingTable,
    vhost: string,
    exchange: string,
    call: Pick<PublishCall, "routingKey" | "producerId" | "sequence">,
    records: readonly ScannedRecord[],
  ): { shares: Share[]; unroutable: number[] } | BrokerError {
    const shares = new Map<string, Share>();
    const unroutable: number[] = [];
    const byKey = new Map<string, readonly string[]>();
    // A retry goes where the first try went.
    this.keyless = call.producerId === 0 ? (this.keyless + 1) % 0x4000_0000 : call.sequence;
    for (const [at, record] of records.entries()) {
      const key = record.routingKey ?? call.routingKey;
      let targets = record.headers.size === 0 ? byKey.get(key) : undefined;
      if (targets === undefined) {
        // By the default exchange every name can be reached, also those that are nobody's.
        targets = table.route(exchange, { key, headers: record.headers })!.filter((name) => !isReserved(name));
        if (record.headers.size === 0) byKey.set(key, targets);
      }
      if (targets.length === 0) unroutable.push(at);
      for (const name of targets) this.share(shares, vhost, name, record);
      if (shares.size > ROUTES_PER_BATCH_MAX)
        return new BrokerError("INVALID_ARGUMENT", `a batch may go to ${ROUTES_PER_BATCH_MAX} queues and partitions; send smaller ones`);
    }
    return { shares: [...shares.values()], unroutable };
  }

  private share(shares: Map<string, Share>, vhost: string, name: string, record: ScannedRecord): void {
    const topic = this.components.catalog.topic(vhost, name)!;
    const partitions = topic.partitions.length;
    const partition = partitions === 1 ? 0 : (record.keyHash === 0 ? this.keyless : record.keyHash) % partitions;
    const key = partitions === 1 ? name : `${name}\0${partition}`;
    const share = shares.get(key);
    if (share === undefined) shares.set(key, { topic, partition, records: [record] });
    else share.records.push(record);
  }

  private store(call: PublishCall, shares: readonly Share[], unroutable: readonly number[], count: number, done: PublishDone): void {
    let left = shares.length;
    let copies = 0;
    let duplicates = 0;
    let failure: BrokerError | null = null;
    const finish = (): void => {
      if (failure !== null) done(failure, 0, -1, 0, false);
      else done(null, 0, -1, count, left === 0 && shares.length > 0 && duplicates === shares.length, { copies, unroutable });
    };
    if (left === 0) {
      finish();
      return;
    }
    for (const share of shares)
      this.propose(call, share, (error, isDuplicate) => {
        // One that may have been carried out says more than one that was not.
        if (error === null) copies += share.records.length;
        else if (failure === null || error.maybeApplied) failure = error;
        duplicates += isDuplicate ? 1 : 0;
        left -= 1;
        if (left === 0) finish();
      });
  }

  private propose(
    call: PublishCall,
    { topic, partition, records }: Share,
    done: (error: BrokerError | null, isDuplicate: boolean) => void,
  ): void {
    const { memory, router } = this.components;
    const { producerId, producerEpoch, sequence } = call;
    const isSeen = topic.queue !== null || topic.works.length > 0;
    const sidecar = isSeen ? encodeSidecar(factRuns(records)) : null;
    const origin = { count: records.length, producerId, producerEpoch, sequence };
    const payload = recordsPayload(memory, origin, "sparse", sidecar, partsOf(call.records, records));
    router.propose(topic.partitions[partition]!.group, ENTRY_RECORDS, payload, false, (error, code) => {
      if (error !== null) done(error, false);
      else if (code === STREAM_OK || code === STREAM_DUPLICATE) done(null, code === STREAM_DUPLICATE);
      else done(streamError(code, topic.name), false);
    });
  }
}

/** The records' bytes, neighbours as one part. */
export function partsOf(bytes: Uint8Array, records: readonly ScannedRecord[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let { start, end } = records[0]!;
  for (let at = 1; at < records.length; at++) {
    const next = records[at]!;
    if (next.start !== end) {
      parts.push(bytes.subarray(start, end));
      ({ start } = next);
    }
    ({ end } = next);
  }
  parts.push(bytes.subarray(start, end));
  return parts;
}

function unknownExchange(exchange: string): BrokerError {
  return new BrokerError("UNKNOWN_EXCHANGE", `there is no exchange ${quoted(exchange)}; create it with "flotilla exchange create"`, {
    exchange: exchange.slice(0, NAME_LENGTH_MAX),
  });
}

function keyFault(key: string): BrokerError | null {
  if (key.length <= ROUTING_KEY_LENGTH_MAX) return null;
  return new BrokerError("INVALID_ARGUMENT", `routing_key must have at most ${ROUTING_KEY_LENGTH_MAX} characters, not ${key.length}`, {
    field: "routing_key",
  });
}
