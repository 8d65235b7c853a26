// Bodies of what nodes say to each other about work subscriptions.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { toGroupId, type GroupId } from "../../base/ids.ts";
import { REQUEST_PARTITIONS_MAX } from "../../base/limits.ts";
import { readWorkConfig, writeWorkConfig, type WorkConfig } from "../../machine/work/config.ts";
import type { Lease, MessageInfo, MessageState, WorkCounts } from "../../machine/work/state.ts";
import type { ConsumerInfo } from "./types.ts";

/** Messages that went to a consumer. */
export type LeasedRun = {
  readonly consumer: number;
  readonly from: number;
  readonly end: number;
  readonly token: number;
  readonly deadlineMs: number;
  readonly deliveries: number;
};
export type RevokedRun = { readonly consumer: number; readonly from: number; readonly end: number };

/** What the leader of a group tells the node where consumers are connected. */
export type WorkNotice = { readonly group: GroupId; readonly deliveries: readonly LeasedRun[]; readonly revokes: readonly RevokedRun[] };

export function encodeNotice({ group, deliveries, revokes }: WorkNotice): Uint8Array {
  const writer = new ByteWriter(32 + deliveries.length * 48).u32(group).varint(deliveries.length);
  for (const { consumer, from, end, token, deadlineMs, deliveries: count } of deliveries)
    writer
      .varint(consumer)
      .varint(from)
      .varint(end - from)
      .varint(token)
      .varint(deadlineMs)
      .varint(count);
  writer.varint(revokes.length);
  for (const { consumer, from, end } of revokes)
    writer
      .varint(consumer)
      .varint(from)
      .varint(end - from);
  return writer.finish();
}

export function decodeNotice(body: Uint8Array): WorkNotice {
  const reader = new ByteReader(body);
  const group = toGroupId(reader.u32());
  const deliveries: LeasedRun[] = [];
  for (let count = reader.varint(); count > 0; count--) {
    const [consumer, from, length] = [reader.varint(), reader.varint(), reader.varint()];
    const [token, deadlineMs, times] = [reader.varint(), reader.varint(), reader.varint()];
    deliveries.push({ consumer, from, end: from + length, token, deadlineMs, deliveries: times });
  }
  const revokes: RevokedRun[] = [];
  for (let count = reader.varint(); count > 0; count--) {
    const [consumer, from, length] = [reader.varint(), reader.varint(), reader.varint()];
    revokes.push({ consumer, from, end: from + length });
  }
  reader.done();
  return { group, deliveries, revokes };
}

export type LeasesQuestion = { readonly group: GroupId; readonly subscription: string; readonly consumer: number };

export function encodeLeasesQuestion({ group, subscription, consumer }: LeasesQuestion): Uint8Array {
  return new ByteWriter(32).u32(group).string(subscription).varint(consumer).finish();
}

export function decodeLeasesQuestion(body: Uint8Array): LeasesQuestion {
  const reader = new ByteReader(body);
  const question = { group: toGroupId(reader.u32()), subscription: reader.string(), consumer: reader.varint() };
  reader.done();
  return question;
}

export function encodeLeases(leases: readonly Lease[]): Uint8Array {
  const writer = new ByteWriter(16 + leases.length * 40).varint(leases.length);
  for (const { run, token, deadlineMs, deliveries } of leases)
    writer
      .varint(run.from)
      .varint(run.end - run.from)
      .varint(token)
      .varint(deadlineMs)
      .varint(deliveries);
  return writer.finish();
}

export function decodeLeases(body: Uint8Array): Lease[] {
  const reader = new ByteReader(body);
  const leases: Lease[] = [];
  for (let count = reader.varint(); count > 0; count--) {
    const [from, length, token, deadlineMs, deliveries] = [
      reader.varint(),
      reader.varint(),
      reader.varint(),
      reader.varint(),
      reader.varint(),
    ];
    leases.push({ run: { from, end: from + length }, token, deadlineMs, deliveries });
  }
  reader.done();
  return leases;
}

/** About one subscription of each group: its counts, and on demand its consumers and the messages from an offset on. */
export type LookQuestion = {
  readonly groups: readonly GroupId[];
  readonly subscription: string;
  readonly withConsumers: boolean;
  readonly browseFrom: number;
  /** 0 = no messages are asked for. */
  readonly browseMax: number;
};
export type Look = {
  /** What the group goes by. */
  readonly config: WorkConfig;
  readonly counts: WorkCounts;
  /** What the stream has from here on is backlog; it counts as ready. */
  readonly fedTo: number;
  readonly lastUsedMs: number;
  readonly startOffset: number;
  readonly endOffset: number;
  readonly bytes: number;
  readonly consumers: readonly ConsumerInfo[];
  readonly messages: readonly MessageInfo[];
};

export function encodeLookQuestion({ groups, subscription, withConsumers, browseFrom, browseMax }: LookQuestion): Uint8Array {
  const writer = new ByteWriter(64).string(subscription).u8(withConsumers ? 1 : 0);
  writer.u64(browseFrom).varint(browseMax).varint(groups.length);
  for (const group of groups) writer.u32(group);
  return writer.finish();
}

export function decodeLookQuestion(body: Uint8Array): LookQuestion {
  const reader = new ByteReader(body);
  const [subscription, withConsumers, browseFrom, browseMax] = [reader.string(), reader.u8() === 1, reader.u64(), reader.varint()];
  const count = reader.varint();
  if (count > REQUEST_PARTITIONS_MAX) throw new DecodeError(`${count} groups in one question`);
  const groups = Array.from({ length: count }, () => toGroupId(reader.u32()));
  reader.done();
  return { groups, subscription, withConsumers, browseFrom, browseMax };
}

/** Null: this node does not lead the group, or it has no such subscription. */
export function encodeLooks(looks: readonly (Look | null)[]): Uint8Array {
  const writer = new ByteWriter(64 + looks.length * 64).varint(looks.length);
  for (const look of looks) {
    writer.u8(look === null ? 0 : 1);
    if (look !== null) writeLook(writer, look);
  }
  return writer.finish();
}

export function decodeLooks(body: Uint8Array): (Look | null)[] {
  const reader = new ByteReader(body);
  const looks: (Look | null)[] = [];
  for (let count = reader.varint(); count > 0; count--) looks.push(reader.u8() === 0 ? null : readLook(reader));
  reader.done();
  return looks;
}

function writeLook(writer: ByteWriter, look: Look): void {
  const { config, counts, fedTo, lastUsedMs, startOffset, endOffset, bytes, consumers, messages } = look;
  writeWorkConfig(writer, config);
  const { ready, leased, delayed, parked, dead } = counts;
  for (const value of [ready, leased, delayed, parked, dead, counts.consumers, fedTo, lastUsedMs, startOffset, endOffset, bytes])
    writer.varint(value);
  writer.varint(consumers.length);
  for (const { id, node, priority, credit, held, active } of consumers)
    writer
      .varint(id)
      .varint(node)
      .u8(priority + 128)
      .u8(active ? 1 : 0)
      .varint(credit)
      .varint(held);
  writer.varint(messages.length);
  for (const { run, state, deliveries, priority, untilMs, expiryMs, consumer, reason } of messages) {
    writer
      .varint(run.from)
      .varint(run.end - run.from)
      .u8(state)
      .varint(deliveries);
    writer.u8(priority).varint(untilMs).varint(expiryMs).varint(consumer).u8(reason);
  }
}

function readLook(reader: ByteReader): Look {
  const config = readWorkConfig(reader);
  const [ready, leased, delayed, parked, dead] = [reader.varint(), reader.varint(), reader.varint(), reader.varint(), reader.varint()];
  const counts = { ready, leased, delayed, parked, dead, consumers: reader.varint() };
  const fedTo = reader.varint();
  const [lastUsedMs, startOffset, endOffset, bytes] = [reader.varint(), reader.varint(), reader.varint(), reader.varint()];
  const consumers = Array.from({ length: reader.varint() }, () => {
    const [id, node, priority, active] = [reader.varint(), reader.varint(), reader.u8() - 128, reader.u8() === 1];
    return { id, node, priority, active, credit: reader.varint(), held: reader.varint() };
  });
  const messages = Array.from({ length: reader.varint() }, () => {
    const [from, length, state, deliveries] = [reader.varint(), reader.varint(), reader.u8() as MessageState, reader.varint()];
    const [priority, untilMs, expiryMs, consumer, reason] = [reader.u8(), reader.varint(), reader.varint(), reader.varint(), reader.u8()];
    return { run: { from, end: from + length }, state, deliveries, priority, untilMs, expiryMs, consumer, reason };
  });
  return { config, counts, fedTo, lastUsedMs, startOffset, endOffset, bytes, consumers, messages };
}
