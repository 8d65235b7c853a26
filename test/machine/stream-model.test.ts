import fc from "fast-check";
import { expect, test } from "vitest";
import { STREAM_OK } from "../../src/machine/stream/codes.ts";
import { encodeCommitOffset, encodeDeleteCursor, encodeTrim } from "../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { COMMAND, RECORDS, records, type TestEntry } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";
import { StreamModel, type Sent } from "./stream-model.ts";

/** `where` says how a batch stands to what its producer stored before; the model turns it into numbers. */
const publish = fc.record({
  kind: fc.constant("publish" as const),
  id: fc.nat({ max: 3 }),
  epochUp: fc.constantFrom(0, 0, 0, 0, 0, 1, -1),
  where: fc.constantFrom("next", "next", "next", "again", "older", "gap", "back", "zero"),
  back: fc.integer({ min: 1, max: 40 }),
  count: fc.integer({ min: 1, max: 5 }),
  bytes: fc.constantFrom(10, 40_000, 70_000),
});
const commit = fc.record({
  kind: fc.constant("commit" as const),
  name: fc.constantFrom("a", "b", "c"),
  offset: fc.nat({ max: 100 }),
  reset: fc.boolean(),
});
const forget = fc.record({ kind: fc.constant("delete" as const), name: fc.constantFrom("a", "b", "c") });
const trim = fc.record({ kind: fc.constant("trim" as const), permille: fc.nat({ max: 1_100 }) });
const action = fc.record({
  step: fc.oneof(
    { weight: 12, arbitrary: publish },
    { weight: 2, arbitrary: commit },
    { weight: 1, arbitrary: forget },
    { weight: 1, arbitrary: trim },
  ),
  ms: fc.oneof({ weight: 20, arbitrary: fc.nat({ max: 50 }) }, { weight: 1, arbitrary: fc.constant(13 * 60 * 60 * 1000) }),
});
type Step = (typeof action extends fc.Arbitrary<infer A> ? A : never)["step"];
const history = fc.array(action, { maxLength: 60, size: "max" });

function sentOf(step: Extract<Step, { kind: "publish" }>, model: StreamModel): Sent {
  const batches = model.batchesOf(step.id);
  const last = batches[batches.length - 1];
  const epoch = Math.max(0, (last?.epoch ?? 3) + step.epochUp);
  const next = last === undefined || step.epochUp > 0 ? 0 : last.sequence + last.count;
  const again = batches[Math.max(0, batches.length - (step.back % 12) - 1)] ?? { sequence: 0, count: step.count };
  const base = { id: step.id, epoch, count: step.count };
  switch (step.where) {
    case "again":
      return { ...base, sequence: again.sequence, count: again.count };
    case "older":
      return { ...base, sequence: again.sequence + Math.min(again.count - 1, step.back % 3), count: 1 };
    case "gap":
      return { ...base, sequence: next + step.back };
    case "back":
      return { ...base, sequence: Math.max(0, next - step.back) };
    case "zero":
      return { ...base, sequence: 0 };
    default:
      return { ...base, sequence: next };
  }
}

/** Applies one step to both, compares the replies, and gives the entry. */
function both(step: Step, timeMs: number, run: MachineRun<StreamMachine>, model: StreamModel): TestEntry {
  const index = run.index + 1;
  let entry: TestEntry;
  let expected: readonly [number, number];
  switch (step.kind) {
    case "publish": {
      const sent = sentOf(step, model);
      entry = { kind: RECORDS, timeMs, payload: records(sent.count, { ...sent, bytes: step.bytes }) };
      expected = model.send(sent, index, timeMs);
      break;
    }
    case "commit":
      entry = {
        kind: COMMAND,
        timeMs,
        payload: encodeCommitOffset({ subscription: step.name, offset: step.offset, metadata: "", reset: step.reset, generation: 0 }),
      };
      expected = [model.commit(step.name, step.offset, step.reset), 0];
      break;
    case "delete":
      entry = { kind: COMMAND, timeMs, payload: encodeDeleteCursor(step.name) };
      model.cursors.delete(step.name);
      expected = [STREAM_OK, 0];
      break;
    case "trim": {
      const offset = Math.floor((model.end * step.permille) / 1_000);
      entry = { kind: COMMAND, timeMs, payload: encodeTrim(offset) };
      expected = [STREAM_OK, model.trim(offset)];
      break;
    }
  }
  const { code, value } = run.apply(entry);
  expect([code, value], `reply at ${index}`).toEqual(expected);
  return entry;
}

/** Reads as the broker does: from the row forward, counting what is not void. */
function checkReading(machine: StreamMachine, model: StreamModel): void {
  const held = model.stored.filter(({ offset, count }) => offset + count > model.start);
  for (const index of model.voids) if (index >= machine.firstIndex) expect(machine.isVoid(index), `void ${index}`).toBe(true);
  for (const wanted of held) {
    expect(machine.isVoid(wanted.index), `stored ${wanted.index}`).toBe(false);
    expect(wanted.index, "what is held is needed").toBeGreaterThanOrEqual(machine.firstIndex);
    const row = machine.locate(Math.max(wanted.offset, model.start));
    expect(row.index, "reading starts at what the log still has").toBeGreaterThanOrEqual(machine.firstIndex);
    const between = model.stored.filter(({ index }) => index >= row.index && index < wanted.index);
    expect(
      between.reduce((offset, { count }) => offset + count, row.offset),
      `from row to ${wanted.index}`,
    ).toBe(wanted.offset);
    // The first batch stored at or after this time is not before the row for this time.
    const first = held.find(({ timeMs }) => timeMs >= wanted.timeMs)!;
    expect(machine.locateTime(wanted.timeMs).index).toBeLessThanOrEqual(first.index);
  }
}

function play(actions: readonly { step: Step; ms: number }[]): {
  run: MachineRun<StreamMachine>;
  model: StreamModel;
  entries: TestEntry[];
} {
  const run = new MachineRun(new StreamMachine());
  const model = new StreamModel();
  let timeMs = 1_000;
  const entries = actions.map(({ step, ms }) => {
    timeMs += ms;
    const entry = both(step, timeMs, run, model);
    expect([run.machine.startOffset, run.machine.endOffset]).toEqual([model.start, model.end]);
    return entry;
  });
  return { run, model, entries };
}

test("stream: it is what the model says, replies, offsets, cursors and reading", () => {
  fc.assert(
    fc.property(history, (actions) => {
      const { run, model } = play(actions);
      checkReading(run.machine, model);
      expect(new Map(run.machine.listCursors().map(({ name, offset }) => [name, offset]))).toEqual(model.cursors);
      expect(run.releasedTo).toBeLessThan(Math.max(run.machine.firstIndex, 1));
    }),
    { numRuns: 200 },
  );
});

test("stream: the histories come to every outcome, but the two about bounds", () => {
  // The same ones every time: chance may well leave one out.
  const histories = fc.sample(history, { seed: 1, numRuns: 200 });
  const seen = new Set(histories.flatMap((actions) => play(actions).run.replies.map(({ code }) => code)));
  expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6]);
});

test("stream: a snapshot at any entry and the rest of the log give the same bytes as the whole log", () => {
  fc.assert(
    fc.property(history, (actions) => {
      const { run, entries } = play(actions);
      const whole = run.machine.snapshot();
      const replay = new MachineRun(new StreamMachine());
      for (let at = 0; at <= entries.length; at++) {
        const restored = new MachineRun(new StreamMachine(), at);
        restored.machine.restore(replay.machine.snapshot());
        restored.applyAll(entries.slice(at));
        expect(restored.machine.snapshot(), `snapshot at ${at}`).toEqual(whole);
        expect(restored.replies, `replies after ${at}`).toEqual(run.replies.slice(at));
        if (at < entries.length) replay.apply(entries[at]!);
      }
    }),
    { numRuns: 40 },
  );
});
