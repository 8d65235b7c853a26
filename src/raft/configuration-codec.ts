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

/** The bytes passed their checksum, so anything odd in them is a bug or a newer version, not bad input. */
export function decodeChange(bytes: Uint8Array): ConfigurationChange {
  assert(bytes.length >= 4 && bytes[0] === FORMAT, `membership change of format ${bytes[0]} is newer than this release`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const transition = TRANSITIONS[bytes[1]!];
  const count = view.getUint16(2, true);
  assert(transition !== undefined && bytes.length === 4 + count * 5, "membership change has the right length");
  const changes = Array.from({ length: count }, (_, at) => ({ kind: bytes[4 + at * 5]! as ChangeKind, peer: view.getUint32(5 + at * 5, true) }));
  return { transition, changes };
}
