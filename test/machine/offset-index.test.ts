import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteReader, ByteWriter, DecodeError } from "../../src/base/bytes.ts";
import { OFFSET_INDEX_ROWS_MAX } from "../../src/base/limits.ts";
import { OffsetIndex, type OffsetRow } from "../../src/machine/stream/offset-index.ts";
import { Voids } from "../../src/machine/stream/voids.ts";

const STRIDE = 64 * 1024;

function bytesOf(part: { write(writer: ByteWriter): void }): Uint8Array {
  const writer = new ByteWriter();
  part.write(writer);
  return writer.finish();
}

/** Entries of a stream, all of them, as rows. */
function entriesOf(steps: readonly { count: number; gap: number; ms: number; bytes: number }[]): OffsetRow[] {
  let next: OffsetRow = { offset: 0, index: 1, timeMs: 1, bytes: 0 };
  return steps.map(({ count, gap, ms, bytes }) => {
    const row = { ...next, timeMs: next.timeMs + ms };
    next = { offset: row.offset + count, index: row.index + 1 + gap, timeMs: row.timeMs, bytes: row.bytes + bytes };
    return row;
  });
}

const step = fc.record({
  count: fc.integer({ min: 1, max: 9 }),
  gap: fc.nat({ max: 2 }),
  ms: fc.nat({ max: 3 }),
  bytes: fc.nat({ max: STRIDE * 2 }),
});

test("offsets: a row stands at or before what it is asked for, and no other row is nearer", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 80 }), fc.nat(), (steps, pick) => {
      const entries = entriesOf(steps);
      const index = new OffsetIndex();
      for (const { offset, index: at, timeMs, bytes } of entries) index.note(offset, at, timeMs, bytes);
      // Which rows there are follows from the rule alone: one for every stride of bytes.
      const rows: OffsetRow[] = [];
      for (const entry of entries) if (rows.length === 0 || entry.bytes - rows[rows.length - 1]!.bytes >= STRIDE) rows.push(entry);
      const wanted = entries[pick % entries.length]!;
      expect(index.first).toEqual(rows[0]);
      expect(index.locate(wanted.offset)).toEqual(rows.filter((row) => row.offset <= wanted.offset).at(-1));
      expect(index.locateTime(wanted.timeMs)).toEqual(rows.filter((row) => row.timeMs < wanted.timeMs).at(-1));
      expect(index.locateBytes(wanted.bytes)).toEqual(rows.filter((row) => row.bytes <= wanted.bytes).at(-1));
      index.trim(wanted.offset);
      expect(index.first).toEqual(rows.filter((row) => row.offset <= wanted.offset).at(-1));
      const last = entries[entries.length - 1]!;
      expect(index.locate(last.offset)).toEqual(rows[rows.length - 1]);
      expect(bytesOf(OffsetIndex.read(new ByteReader(bytesOf(index))))).toEqual(bytesOf(index));
    }),
  );
});

test("offsets: at the bound every second row goes, the first stays, and the stride doubles", () => {
  const index = new OffsetIndex();
  for (let at = 0; at <= OFFSET_INDEX_ROWS_MAX; at++) index.note(at, at + 1, at, at * STRIDE);
  expect(index.first?.offset).toBe(0);
  for (const offset of [1, 2, 3, 1_001, OFFSET_INDEX_ROWS_MAX - 1, OFFSET_INDEX_ROWS_MAX]) {
    expect(index.locate(offset)?.offset, `offset ${offset}`).toBe(offset - (offset % 2));
  }
  index.note(OFFSET_INDEX_ROWS_MAX + 1, 9_000, 9_000, (OFFSET_INDEX_ROWS_MAX + 1) * STRIDE);
  expect(index.locate(1e9)?.offset).toBe(OFFSET_INDEX_ROWS_MAX);
  index.note(OFFSET_INDEX_ROWS_MAX + 2, 9_001, 9_001, (OFFSET_INDEX_ROWS_MAX + 2) * STRIDE);
  expect(index.locate(1e9)?.offset).toBe(OFFSET_INDEX_ROWS_MAX + 2);
});

test("offsets: however much a stream holds, its rows stay within the bound", () => {
  const index = new OffsetIndex();
  for (let at = 0; at < OFFSET_INDEX_ROWS_MAX * 5; at++) index.note(at, at + 1, at, at * STRIDE);
  const reader = new ByteReader(bytesOf(index));
  const [stride, rows] = [reader.varint(), reader.varint()];
  expect(stride).toBe(STRIDE * 8);
  expect(rows).toBeGreaterThan(OFFSET_INDEX_ROWS_MAX / 2);
  expect(rows).toBeLessThanOrEqual(OFFSET_INDEX_ROWS_MAX);
});

test("offsets: an empty index knows no row, before the first and after a clear", () => {
  const index = new OffsetIndex();
  expect([index.first, index.locate(5), index.locateTime(5), index.locateBytes(5)]).toEqual([undefined, undefined, undefined, undefined]);
  index.note(0, 1, 1, 0);
  index.clear();
  expect(index.locate(5)).toBeUndefined();
  index.note(7, 9, 2, 100);
  expect(index.locate(7)).toEqual({ offset: 7, index: 9, timeMs: 2, bytes: 100 });
});

test("offsets: more rows than the bound are refused", () => {
  const bytes = new ByteWriter()
    .varint(STRIDE)
    .varint(OFFSET_INDEX_ROWS_MAX + 1)
    .finish();
  expect(() => OffsetIndex.read(new ByteReader(bytes))).toThrow(DecodeError);
});

test("voids: they are what was added and not trimmed, and equal ones have equal bytes", () => {
  const action = fc.oneof(
    { weight: 6, arbitrary: fc.record({ add: fc.integer({ min: 1, max: 3 }) }) },
    fc.record({ trimBack: fc.integer({ min: -2, max: 9 }) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const voids = new Voids();
      let model = new Set<number>();
      let last = 0;
      for (const one of actions) {
        if ("add" in one) {
          last += one.add;
          voids.add(last);
          model.add(last);
        } else {
          // Near the newest: inside a run, at its edges, past everything.
          const below = Math.max(0, last - one.trimBack);
          voids.trim(below);
          model = new Set([...model].filter((index) => index >= below));
        }
      }
      for (let index = 0; index <= last + 1; index++) expect(voids.has(index), `index ${index}`).toBe(model.has(index));
      const rebuilt = new Voids();
      for (const index of model) rebuilt.add(index);
      expect(bytesOf(rebuilt)).toEqual(bytesOf(voids));
      expect(bytesOf(Voids.read(new ByteReader(bytesOf(voids))))).toEqual(bytesOf(voids));
    }),
  );
});

test("voids: a run of refusals costs no more than one refusal", () => {
  const [one, many] = [new Voids(), new Voids()];
  one.add(1_000);
  for (let index = 1_000; index < 1_100; index++) many.add(index);
  expect(bytesOf(many).length).toBe(bytesOf(one).length);
});

test("voids: runs that touch are refused", () => {
  const bytes = new ByteWriter().varint(2).varint(5).varint(0).varint(1).varint(0).finish();
  expect(() => Voids.read(new ByteReader(bytes))).toThrow(DecodeError);
});
