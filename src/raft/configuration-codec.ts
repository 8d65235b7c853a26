// A membership change as the payload of its log entry: version, transition, count, then (kind, peer) pairs.

import { assert } from "./assert.ts";
import type { ChangeKind, ConfigurationChange, Transition } from "./types.ts";

const FORMAT = 1;
const TRANSITIONS: readonly Transition[] = ["auto", "jointImplicit", "jointExplicit"];

export function encodeChange(change: ConfigurationChange): Uint8Array {
  const bytes = new Uint8Array(4 + change.changes.length * 5);
  const view = new DataView(bytes.buffer);
  bytes[0] = FORMAT;
  bytes[1] = TRANSITIONS.indexOf(change.transition);
  view.setUint16(2, change.changes.length, true);
  change.changes.forEach(({ kind, peer }, at) => {
    bytes[4 + at * 5] = kind;
    view.setUint32(5 + at * 5, peer, true);
  });
  return bytes;
}

/** The entry payload of a change with its CRC-32, which the core has to know for the changes that it proposes itself. */
export function changePayload(change: ConfigurationChange): { payload: Uint8Array; crc: number } {
  const payload = encodeChange(change);
  return { payload, crc: crc32(payload) };
}

/** The bytes passed their checksum, so anything odd in them is a bug or a newer version, not bad input. */
export function decodeChange(bytes: Uint8Array): ConfigurationChange {
  assert(bytes.length >= 4 && bytes[0] === FORMAT, `membership change of format ${bytes[0]} is newer than this release`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const transition = TRANSITIONS[bytes[1]!];
  const count = view.getUint16(2, true);
  assert(transition !== undefined && bytes.length === 4 + count * 5, "membership change has the right length");
  const changes = Array.from({ length: count }, (_, at) => ({
    kind: bytes[4 + at * 5]! as ChangeKind,
    peer: view.getUint32(5 + at * 5, true),
  }));
  return { transition, changes };
}

/** CRC-32 (IEEE 802.3, reflected), bit by bit: changes are rare and a few bytes long. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb8_8320 & -(crc & 1));
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}
