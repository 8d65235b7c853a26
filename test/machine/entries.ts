// Log entries for machines under test.

import type { NodeId } from "../../src/base/ids.ts";
import type { ForgetNode } from "../../src/machine/catalog/commands.ts";
import type { ConfigRow, NodeRegistration } from "../../src/machine/catalog/rows.ts";
import { recordsHeadBytes, writeRecordsHeader } from "../../src/machine/stream/records-codec.ts";
import { encodeSidecar, type FactRun } from "../../src/machine/work/sidecar.ts";

export const RECORDS = 1;
export const COMMAND = 2;
export type TestEntry = { readonly kind: number; readonly timeMs: number; readonly payload: Uint8Array };

export type RecordsOptions = {
  readonly id?: number;
  readonly epoch?: number;
  readonly sequence?: number;
  /** Of the record batch behind the header; its content is nothing to the machine. */
  readonly bytes?: number;
  readonly isSparse?: boolean;
  readonly isTransaction?: boolean;
  readonly facts?: readonly Partial<FactRun>[];
  /** False: nobody looked what is to be known of them. */
  readonly isScanned?: boolean;
};

/** The payload of a records entry. */
export function records(
  count: number,
  {
    id = 0,
    epoch = 0,
    sequence = 0,
    bytes = 10,
    isSparse = false,
    isTransaction = false,
    facts = [],
    isScanned = true,
  }: RecordsOptions = {},
): Uint8Array {
  const sidecar = encodeSidecar(facts.map((run) => ({ count: 1, priority: 0, dueMs: 0, delayMs: 0, ttlMs: 0, keyHash: 0, ...run })));
  const sidecarBytes = isScanned ? sidecar.length : -1;
  const numbering = isTransaction ? "transaction" : isSparse ? "sparse" : "gapless";
  const payload = new Uint8Array(recordsHeadBytes(sidecarBytes) + bytes);
  writeRecordsHeader(payload, 0, { count, producerId: id, producerEpoch: epoch, sequence }, numbering, sidecarBytes);
  if (sidecarBytes > 0) payload.set(sidecar, recordsHeadBytes(sidecarBytes) - sidecarBytes);
  return payload;
}

/** A node to be forgotten as it runs on the disk that `nodeRow` gives it. */
export function forget(id: number): ForgetNode {
  const { id: node, storeId } = nodeRow(id);
  return { node, storeId };
}

export function nodeRow(id: number, changes: Partial<NodeRegistration> = {}): NodeRegistration {
  return {
    id: id as NodeId,
    storeId: `store-${id}`,
    clientEndpoint: `127.0.0.${id}:7440`,
    peerEndpoint: `127.0.0.${id}:7441`,
    dc: "",
    zone: "",
    version: "1",
    incarnation: 1,
    ...changes,
  };
}

export const CONFIG: ConfigRow = {
  durability: 1,
  retentionMs: 0,
  retentionBytes: 0,
  flushIntervalMs: 0,
  flushMessages: 0,
  retentionSchedule: "",
  retentionTimeZone: "",
  retentionPolicy: 1,
};

/** Node numbers as a placement: one list per partition. */
export function placed(...partitions: number[][]): NodeId[][] {
  return partitions as NodeId[][];
}
