import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteWriter, DecodeError } from "../../src/base/bytes.ts";
import { COMMIT_METADATA_LENGTH_MAX, CURSORS_PER_STREAM_MAX, NAME_LENGTH_MAX } from "../../src/base/limits.ts";
import { machineFor } from "../../src/machine/registry.ts";
import {
  STREAM_BAD_COMMAND,
  STREAM_OFFSET_OUT_OF_RANGE,
  STREAM_OK,
  STREAM_OUT_OF_SEQUENCE,
  STREAM_TOO_MANY_CURSORS,
  STREAM_WOULD_GO_BACK,
} from "../../src/machine/stream/codes.ts";
import { encodeCommitOffset, encodeDeleteCursor, encodeTrim } from "../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { COMMAND, records } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";

const STRIDE = 64 * 1024;

function commit(subscription: string, offset: number, options: { metadata?: string; reset?: boolean } = {}): Uint8Array {
  return encodeCommitOffset({ subscription, offset, metadata: options.metadata ?? "", reset: options.reset ?? false, generation: 0 });
}

/** Entries of 10 records and a stride of bytes each, one a second: every one gets a row. */
function filled(entries: number): MachineRun<StreamMachine> {
  const run = new MachineRun(new StreamMachine());
  for (let at = 0; at < entries; at++) run.records(records(10, { bytes: STRIDE }), 1_000 * (at + 1));
  return run;
}

test("stream: records get offsets without gaps, and readers hear of the end", () => {
  const run = new MachineRun(new StreamMachine());
  expect([3, 1, 500].map((count) => run.records(records(count)).value)).toEqual([0, 3, 4]);
  expect([run.machine.startOffset, run.machine.endOffset, run.advancedTo]).toEqual([0, 504, 504]);
  expect(machineFor("stream")).toBeInstanceOf(StreamMachine);
});

/** On a stream with offsets 0..20 and "known" committed at 10. */
const commits: readonly { name: string; payload: Uint8Array; code: number; after: number | undefined }[] = [
  { name: "the first offset", payload: commit("new", 0), code: STREAM_OK, after: 0 },
  { name: "the end", payload: commit("new", 20), code: STREAM_OK, after: 20 },
  { name: "past the end", payload: commit("new", 21), code: STREAM_OFFSET_OUT_OF_RANGE, after: undefined },
  { name: "the same again", payload: commit("known", 10), code: STREAM_OK, after: 10 },
  { name: "further", payload: commit("known", 11), code: STREAM_OK, after: 11 },
  { name: "back", payload: commit("known", 9), code: STREAM_WOULD_GO_BACK, after: 10 },
  { name: "back on purpose", payload: commit("known", 9, { reset: true }), code: STREAM_OK, after: 9 },
  { name: "past the end on purpose", payload: commit("known", 21, { reset: true }), code: STREAM_OFFSET_OUT_OF_RANGE, after: 10 },
  { name: "under no name", payload: commit("", 1), code: STREAM_BAD_COMMAND, after: undefined },
  { name: "under a name with a slash", payload: commit("a/b", 1), code: STREAM_BAD_COMMAND, after: undefined },
  { name: "under the longest name", payload: commit("n".repeat(NAME_LENGTH_MAX), 1), code: STREAM_OK, after: 1 },
  { name: "under a longer name", payload: commit("n".repeat(NAME_LENGTH_MAX + 1), 1), code: STREAM_BAD_COMMAND, after: undefined },
  { name: "under __proto__", payload: commit("__proto__", 1), code: STREAM_OK, after: 1 },
  {
    name: "with the longest metadata",
    payload: commit("new", 1, { metadata: "m".repeat(COMMIT_METADATA_LENGTH_MAX) }),
    code: STREAM_OK,
    after: 1,
  },
  {
    name: "with longer metadata",
    payload: commit("new", 1, { metadata: "m".repeat(COMMIT_METADATA_LENGTH_MAX + 1) }),
    code: STREAM_BAD_COMMAND,
    after: undefined,
  },
];

for (const { name, payload, code, after } of commits) {
  test(`stream: a commit of ${name} gives code ${code}`, () => {
    const run = new MachineRun(new StreamMachine());
    run.records(records(20));
    run.command(commit("known", 10));
    expect(run.command(payload).code).toBe(code);
    const subscription = new TextDecoder().decode(payload).includes("known")
      ? "known"
      : run.machine.listCursors().find((cursor) => cursor.name !== "known")?.name;
    expect(subscription === undefined ? undefined : run.machine.cursor(subscription)?.offset).toBe(after);
  });
}

test("stream: a cursor keeps its metadata byte for byte and the log's time, and is listed by name", () => {
  const run = new MachineRun(new StreamMachine());
  run.records(records(5), 100);
  run.command(commit("b", 2, { metadata: "\ufeff\ufeffhost \u{1f6a2} é" }), 200);
  run.command(commit("a", 3), 300);
  run.command(commit("B", 4), 400);
  expect(run.machine.listCursors()).toEqual([
    { name: "B", offset: 4, metadata: "", committedMs: 400, generation: 0 },
    { name: "a", offset: 3, metadata: "", committedMs: 300, generation: 0 },
    { name: "b", offset: 2, metadata: "\ufeff\ufeffhost \u{1f6a2} é", committedMs: 200, generation: 0 },
  ]);
  const restored = new StreamMachine();
  restored.restore(run.machine.snapshot());
  expect(restored.listCursors()).toEqual(run.machine.listCursors());
});

test("stream: a deleted cursor is gone, and deleting it again is no error", () => {
  const run = new MachineRun(new StreamMachine());
  run.records(records(5));
  run.command(commit("a", 5));
  expect([run.command(encodeDeleteCursor("a")).code, run.command(encodeDeleteCursor("a")).code]).toEqual([STREAM_OK, STREAM_OK]);
  expect(run.machine.cursor("a")).toBeUndefined();
  // It left no memory of the position: a lower one may follow.
  expect(run.command(commit("a", 1)).code).toBe(STREAM_OK);
});

test("stream: cursors are bounded; those that exist still move, and a deleted one makes room", () => {
  const run = new MachineRun(new StreamMachine());
  run.records(records(5));
  for (let at = 0; at < CURSORS_PER_STREAM_MAX; at++) run.command(commit(`c${at}`, 1));
  expect(run.command(commit("more", 1)).code).toBe(STREAM_TOO_MANY_CURSORS);
  expect(run.command(commit("c0", 2)).code).toBe(STREAM_OK);
  run.command(encodeDeleteCursor("c1"));
  expect(run.command(commit("more", 1)).code).toBe(STREAM_OK);
});

/** Ten entries of ten records, at indexes 1..10. */
const trims: readonly { name: string; to: readonly number[]; start: number; firstIndex: number; releasedTo: number }[] = [
  { name: "to the start", to: [0], start: 0, firstIndex: 1, releasedTo: 0 },
  { name: "into an entry keeps that entry", to: [35], start: 35, firstIndex: 4, releasedTo: 3 },
  { name: "to the first record of an entry frees all before it", to: [40], start: 40, firstIndex: 5, releasedTo: 4 },
  { name: "into the last entry keeps it", to: [99], start: 99, firstIndex: 10, releasedTo: 9 },
  { name: "to the end frees everything, the command too", to: [100], start: 100, firstIndex: 12, releasedTo: 11 },
  { name: "past the end stops at the end", to: [5_000], start: 100, firstIndex: 12, releasedTo: 11 },
  { name: "back changes nothing", to: [40, 20], start: 40, firstIndex: 5, releasedTo: 4 },
];

for (const { name, to, start, firstIndex, releasedTo } of trims) {
  test(`stream: a trim ${name}`, () => {
    const run = filled(10);
    for (const offset of to) expect(run.command(encodeTrim(offset), 20_000).code).toBe(STREAM_OK);
    expect(run.replies[run.replies.length - 1]!.value).toBe(start);
    expect([run.machine.startOffset, run.machine.endOffset]).toEqual([start, 100]);
    expect([run.machine.firstIndex, run.releasedTo]).toEqual([firstIndex, releasedTo]);
    if (start < 100) expect(run.machine.locate(start)).toMatchObject({ index: firstIndex, offset: Math.floor(start / 10) * 10 });
    expect(run.machine.bytes).toBe((100 - Math.floor(start / 10) * 10) * ((STRIDE + 28) / 10));
  });
}

test("stream: an emptied stream goes on at its old end", () => {
  const run = filled(3);
  run.command(encodeTrim(30), 5_000);
  expect(run.machine.locate(30)).toMatchObject({ offset: 30, index: 5 });
  expect(run.records(records(2, { bytes: 100 }), 6_000).value).toBe(30);
  expect([run.machine.startOffset, run.machine.endOffset, run.machine.bytes]).toEqual([30, 32, 128]);
  expect(run.machine.locate(31)).toMatchObject({ offset: 30, index: 5 });
});

test("stream: voids go with the entries around them, and not before", () => {
  const run = new MachineRun(new StreamMachine());
  const refused = (): number => {
    expect(run.records(records(1, { id: 1, sequence: 99 })).code).not.toBe(STREAM_OK);
    return run.index;
  };
  run.records(records(1, { id: 1, bytes: STRIDE }));
  const first = refused();
  run.records(records(1, { bytes: STRIDE }));
  const second = refused();
  run.records(records(1, { bytes: STRIDE }));
  expect([first, second].map((index) => run.machine.isVoid(index))).toEqual([true, true]);
  run.command(encodeTrim(1));
  expect([first, second].map((index) => run.machine.isVoid(index))).toEqual([false, true]);
  expect(run.replies.filter(({ code }) => code === STREAM_OUT_OF_SEQUENCE)).toHaveLength(2);
});

/** Ten entries of ten records, stored at 1,000..10,000 ms; each is a stride and a header of bytes. */
const retention: readonly { name: string; nowMs: number; retentionMs: number; retentionBytes: number; expected: number }[] = [
  { name: "no policy", nowMs: 1e9, retentionMs: 0, retentionBytes: 0, expected: -1 },
  { name: "nothing is old enough", nowMs: 10_000, retentionMs: 9_000, retentionBytes: 0, expected: -1 },
  { name: "the first entries are old", nowMs: 10_000, retentionMs: 6_500, retentionBytes: 0, expected: 20 },
  { name: "only the last entry is young", nowMs: 13_000, retentionMs: 3_500, retentionBytes: 0, expected: 80 },
  { name: "everything is old", nowMs: 20_000, retentionMs: 5_000, retentionBytes: 0, expected: 100 },
  { name: "within the bytes", nowMs: 10_000, retentionMs: 0, retentionBytes: 10 * (STRIDE + 28), expected: -1 },
  { name: "a byte over keeps the bytes asked for", nowMs: 10_000, retentionMs: 0, retentionBytes: 9 * (STRIDE + 28), expected: 10 },
  { name: "between two entries the larger rest stays", nowMs: 10_000, retentionMs: 0, retentionBytes: 3 * STRIDE, expected: 70 },
  { name: "both, the further one counts", nowMs: 10_000, retentionMs: 6_500, retentionBytes: 3 * STRIDE, expected: 70 },
];

for (const { name, expected, ...policy } of retention) {
  test(`stream: retention, ${name}: ${expected}`, () => {
    const run = filled(10);
    const before = run.machine.snapshot();
    expect(run.machine.retentionCandidate(policy)).toBe(expected);
    expect(run.machine.snapshot()).toEqual(before);
    if (expected < 0) return;
    run.command(encodeTrim(expected), policy.nowMs);
    expect(run.machine.startOffset).toBe(expected);
    expect(run.machine.retentionCandidate(policy)).toBe(-1);
  });
}

test("stream: an empty stream has nothing to retain and nowhere to read", () => {
  const machine = new StreamMachine();
  expect(machine.retentionCandidate({ nowMs: 1e12, retentionMs: 1, retentionBytes: 1 })).toBe(-1);
  expect([machine.bytes, machine.locate(0).offset, machine.locateTime(5).offset]).toEqual([0, 0, 0]);
});

test("stream: what is not a command gets BAD_COMMAND, whatever it is, and the state stays as good as it was", () => {
  const valid = fc.oneof(
    fc
      .record({ name: fc.string(), offset: fc.nat(), metadata: fc.string({ unit: "binary" }) })
      .map(({ name, offset, metadata }) => commit(name, offset, { metadata })),
    fc.string().map(encodeDeleteCursor),
    fc.nat().map(encodeTrim),
    fc.integer({ min: 1, max: 9 }).map((count) => records(count, { id: 1 })),
  );
  const damaged = fc
    .tuple(valid, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }), fc.nat({ max: 80 }))
    .map(([bytes, flips, length]) => {
      const copy = bytes.slice(0, Math.max(length, 1));
      for (const [at, value] of flips) copy[at % copy.length] = value;
      return copy;
    });
  const entry = fc.record({ kind: fc.constantFrom(1, 2, 2, 2, 7), payload: fc.oneof(damaged, fc.uint8Array({ maxLength: 60 })) });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
      const run = filled(2);
      for (const { kind, payload } of entries) run.apply({ kind, payload, timeMs: 5_000 });
      const restored = new StreamMachine();
      restored.restore(run.machine.snapshot());
      expect(restored.snapshot()).toEqual(run.machine.snapshot());
    }),
    { numRuns: 300 },
  );
});

for (const [name, payload] of [
  ["an empty command", new Uint8Array(0)],
  ["a command of a newer format", Uint8Array.of(2, 3, 0, 0, 0, 0, 0, 0, 0, 0)],
  ["a command of an unknown kind", Uint8Array.of(1, 99)],
  ["a command with a byte too many", Uint8Array.of(...encodeTrim(1), 0)],
  ["a trim past 2^53", Uint8Array.of(1, 3, 255, 255, 255, 255, 255, 255, 255, 255)],
  ["a name that is not UTF-8", Uint8Array.of(1, 2, 2, 0xc3, 0x28)],
] as const) {
  test(`stream: ${name} is refused`, () => {
    const run = filled(1);
    expect(run.command(payload, 2_000).code).toBe(STREAM_BAD_COMMAND);
    expect(run.machine.startOffset).toBe(0);
  });
}

test("stream: an entry of another kind is refused", () => {
  expect(filled(1).apply({ kind: 7, payload: encodeTrim(10), timeMs: 2_000 }).code).toBe(STREAM_BAD_COMMAND);
});

test("stream: time that goes back is a bug of the host", () => {
  const run = filled(2);
  expect(() => run.apply({ kind: COMMAND, payload: encodeTrim(0), timeMs: 1_999 })).toThrow("never goes back");
});

test("stream: a damaged or newer snapshot is refused and changes nothing", () => {
  const run = filled(3);
  run.records(records(1, { id: 3, sequence: 4 }), 4_000);
  run.command(commit("a", 3), 4_000);
  const good = run.machine.snapshot();
  for (let length = 0; length < good.length; length++) {
    expect(() => run.machine.restore(good.subarray(0, length)), `${length} bytes`).toThrow(DecodeError);
  }
  expect(() => run.machine.restore(Uint8Array.of(...good, 0))).toThrow(DecodeError);
  expect(() => run.machine.restore(Uint8Array.of(2, ...good.subarray(1)))).toThrow("format 2");
  const backwards = new ByteWriter().u8(1).u8(0).varint(9).varint(8).varint(1).varint(0).varint(0).varint(0).varint(0).varint(STRIDE);
  for (let part = 0; part < 9; part++) backwards.varint(0);
  expect(() => run.machine.restore(backwards.finish())).toThrow("stream from 9 to 8");
  expect(run.machine.snapshot()).toEqual(good);
});

test("stream: the order in which subscriptions came does not show in a snapshot", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.constantFrom("a", "b", "c", "10", "9", "__proto__", "Z", "-", "_")),
      fc.infiniteStream(fc.nat()),
      (names, keys) => {
        const shuffled = names.map((name) => ({ name, key: keys.next().value! })).sort((a, b) => a.key - b.key);
        const [one, other] = [filled(1), filled(1)];
        names.forEach((name) => one.command(commit(name, name.length), 1_000));
        shuffled.forEach(({ name }) => other.command(commit(name, name.length), 1_000));
        expect(other.machine.snapshot()).toEqual(one.machine.snapshot());
      },
    ),
  );
});
