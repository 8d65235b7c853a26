import { copyInto } from "../base/copy.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import { recordsHeadBytes, writeRecordsHeader, type Numbering, type RecordsOrigin } from "../machine/stream/records-codec.ts";

/**
 * The payload of a records entry: `parts` of encoded RecordBatches one after the other are one. Copies everything. `sidecar` null: nobody
 * looked what is to be known of the records.
 */
export function recordsPayload(
  memory: PayloadMemory,
  origin: RecordsOrigin,
  numbering: Numbering,
  sidecar: Uint8Array | null,
  parts: readonly Uint8Array[],
): Uint8Array {
  const sidecarBytes = sidecar?.length ?? -1;
  let at = recordsHeadBytes(sidecarBytes);
  const payload = memory.take(parts.reduce((sum, { length }) => sum + length, at));
  writeRecordsHeader(payload, 0, origin, numbering, sidecarBytes);
  if (sidecar !== null) payload.set(sidecar, at - sidecar.length);
  for (const part of parts) {
    copyInto(payload, at, part);
    at += part.length;
  }
  return payload;
}
