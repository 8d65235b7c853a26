// Records as messages of the generic codec, where a request carries one that is published later.

import type { MessageTypeDefinition, PackageDefinition } from "@grpc/proto-loader";

export type RecordCodec = {
  /** An encoded RecordBatch of one record. */
  batchOf(record: object): Uint8Array;
  /** The first record of a batch; empty when there is none. */
  first(batch: Uint8Array): object;
};

export function recordCodec(protos: PackageDefinition): RecordCodec {
  const type = protos["flotilla.v1.RecordBatch"] as MessageTypeDefinition<object, { records: object[] }>;
  return {
    batchOf: (record) => type.serialize({ records: [record] }),
    first: (batch) => type.deserialize(Buffer.from(batch)).records[0] ?? {},
  };
}
