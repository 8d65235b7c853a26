// Bounds a request before anything decodes it: its bytes, and how many values it has at all levels. Two bytes of an empty
// submessage become an object of a hundred, so bytes alone bound nothing. Counting looks at tags and lengths only.

import type { MessageTypeDefinition } from "@grpc/proto-loader";
import { DecodeError } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import { REQUEST_VALUES_MAX } from "../base/limits.ts";
import { ProtoReader, WIRE_BYTES } from "../base/protobuf.ts";

/** What a field of a message is, as far as counting goes: nested, a list of numbers that may be packed, or anything else. */
export type Shape = ReadonlyMap<number, Shape | "packed">;

type Field = { readonly number: number; readonly label: string; readonly type: string; readonly typeName: string };
export type Types = Readonly<Record<string, unknown>>;

const UNPACKED = new Set(["TYPE_STRING", "TYPE_BYTES", "TYPE_MESSAGE", "TYPE_GROUP"]);

/** The shape of a message type of the package. Our requests do not nest in themselves, so it is finite. */
export function shapeOf(types: Types, definition: MessageTypeDefinition<object, object>): Shape {
  const shape = new Map<number, Shape | "packed">();
  for (const { number, label, type, typeName } of (definition.type as { field: readonly Field[] }).field) {
    if (type === "TYPE_MESSAGE") shape.set(number, shapeOf(types, typeNamed(types, typeName)));
    else if (label === "LABEL_REPEATED" && !UNPACKED.has(type)) shape.set(number, "packed");
  }
  return shape;
}

function typeNamed(types: Types, name: string): MessageTypeDefinition<object, object> {
  const found = types[name.replace(/^\./, "")] ?? types[`flotilla.v1.${name}`];
  if (found === undefined) throw new Error(`the type ${name} is not among the loaded ones`);
  return found as MessageTypeDefinition<object, object>;
}

export function checkBytes(bytes: Uint8Array, bytesMax: number): void {
  if (bytes.length > bytesMax) throw new BrokerError("REQUEST_TOO_LARGE", `the request has ${bytes.length} bytes, ${bytesMax} are allowed`);
}

/** Throws REQUEST_TOO_LARGE beyond REQUEST_VALUES_MAX values, DecodeError on what is no message. */
export function checkValues(bytes: Uint8Array, shape: Shape): void {
  const left = countDown(new ProtoReader(bytes), shape, REQUEST_VALUES_MAX);
  if (left < 0) throw new BrokerError("REQUEST_TOO_LARGE", `the request has more than ${REQUEST_VALUES_MAX} values`);
}

/** What is left of `budget` after the values of one message; below 0 as soon as it is used up. */
function countDown(reader: ProtoReader, shape: Shape, budget: number): number {
  let left = budget;
  while (left >= 0 && reader.next()) {
    left -= 1;
    const inner = reader.wire === WIRE_BYTES ? shape.get(reader.field) : undefined;
    if (inner === undefined) reader.skip();
    else if (inner === "packed") left -= numbersIn(reader.block(), left);
    else left = countDown(reader.message(), inner, left);
  }
  return left;
}

/** Varints of a packed field: each ends with a byte below 0x80. Counts no further than just past `max`. */
function numbersIn(block: Uint8Array, max: number): number {
  let count = 0;
  for (let at = 0; at < block.length && count <= max; at++) if (block[at]! < 0x80) count += 1;
  if (block.length > 0 && count <= max && block[block.length - 1]! >= 0x80) throw new DecodeError("a packed number ends too early");
  return count;
}
