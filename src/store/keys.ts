// The whole key space of the node's LevelDB, key -> value. Numbers are big-endian, so that keys sort by them. Everything
// here can be made again from the log and from the other nodes.
//
//   's' log u8, number u32                 -> u32 salt, u64 bytes, u8 used: a segment file that must exist
//   'm' log u8                             -> u64: a batch sequence that was durable
//   'i' log u8, number u32                 -> packed index of a sealed segment (log/segment-rows.ts)
//   'c' group u32, index u64               -> head of a checkpoint: term, configuration, machine version, time, sizes
//   'd' group u32, index u64, chunk u32    -> a piece of its snapshot, at most 64 KiB

const SEGMENT = 0x73;
const SEGMENT_INDEX = 0x69;
const DURABLE = 0x6d;
const CHECKPOINT = 0x63;
const CHECKPOINT_DATA = 0x64;
const TWO_32 = 4_294_967_296;

/** Which log of the node. */
export const LOG_CATALOG = 0;
export const LOG_DATA = 1;
export type LogId = 0 | 1;

function key(prefix: number, bytes: number, fill: (view: DataView) => void): Uint8Array {
  const array = new Uint8Array(1 + bytes);
  array[0] = prefix;
  fill(new DataView(array.buffer));
  return array;
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_32));
  view.setUint32(at + 4, value % TWO_32);
}

/** Keys of one log's segments, in the form that the log asks for. */
export function segmentKeys(log: LogId): {
  segment: (number: number) => Uint8Array;
  segments: () => Uint8Array;
  index: (number: number) => Uint8Array;
  numberOf: (segmentKey: Uint8Array) => number;
  durable: () => Uint8Array;
} {
  const numbered = (prefix: number, number: number): Uint8Array =>
    key(prefix, 5, (view) => {
      view.setUint8(1, log);
      view.setUint32(2, number);
    });
  return {
    segment: (number) => numbered(SEGMENT, number),
    segments: () => new Uint8Array([SEGMENT, log]),
    index: (number) => numbered(SEGMENT_INDEX, number),
    durable: () => new Uint8Array([DURABLE, log]),
    numberOf: (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(2),
  };
}

export function checkpointKey(group: number, index: number): Uint8Array {
  return key(CHECKPOINT, 12, (view) => {
    view.setUint32(1, group);
    setU64(view, 5, index);
  });
}

export function checkpointsOf(group: number): Uint8Array {
  return key(CHECKPOINT, 4, (view) => view.setUint32(1, group));
}

export function checkpointIndexOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(5) * TWO_32 + view.getUint32(9);
}

export function checkpointDataKey(group: number, index: number, chunk: number): Uint8Array {
  return key(CHECKPOINT_DATA, 16, (view) => {
    view.setUint32(1, group);
    setU64(view, 5, index);
    view.setUint32(13, chunk);
  });
}
