// Reading on in what was read: fetched once, told apart by offset, bounded.

import { expect, test } from "vitest";
import type { GroupId } from "../../../src/base/ids.ts";
import { READ_AHEAD_BYTES_MAX } from "../../../src/base/limits.ts";
import { ProtoWriter } from "../../../src/base/protobuf.ts";
import { RunReader } from "../../../src/broker/work/run-reader.ts";
import type { Fetcher } from "../../../src/broker/fetcher.ts";
import type { FetchedBatch } from "../../../src/broker/types.ts";

const GROUP = 3 as GroupId;
const BATCH_RECORDS = 10;
const { signal } = new AbortController();

/** A batch of ten records whose bodies are their offsets and some more bytes. */
function batch(baseOffset: number, bytesEach: number): FetchedBatch {
  const writer = new ProtoWriter();
  for (let at = 0; at < BATCH_RECORDS; at++) {
    const mark = writer.open(1);
    const body = Buffer.alloc(bytesEach);
    body.writeUInt32LE(baseOffset + at);
    writer.block(2, body).close(mark);
  }
  return { baseOffset, count: BATCH_RECORDS, timeMs: 1, records: writer.finish() };
}

/** Four batches from where is asked on; `start`: what is below is gone. */
function reader(asked: number[], { start = 0, bytesEach = 8 } = {}): RunReader {
  const fetch = (fetches: readonly { value: number }[]): Promise<object[]> => {
    const from = Math.max(start, fetches[0]!.value);
    asked.push(fetches[0]!.value);
    const first = from - (from % BATCH_RECORDS);
    const batches = Array.from({ length: 4 }, (_, at) => batch(first + at * BATCH_RECORDS, bytesEach));
    return Promise.resolve([{ batches, error: null }]);
  };
  return new RunReader({ fetch } as unknown as Fetcher);
}

test("read on: what was fetched is not fetched again, and is cut where the caller's range is", async () => {
  const asked: number[] = [];
  const subject = reader(asked);
  const ranges: [number, number][] = [];
  for (let from = 5; from < 75; from += 7)
    for (const { from: first, end, records } of await subject.readOn(GROUP, from, from + 7, 512, signal)) {
      ranges.push([first, end]);
      expect(records.length).toBeGreaterThan(0);
    }
  expect(ranges.slice(0, 3)).toEqual([
    [5, 10],
    [10, 12],
    [12, 19],
  ]);
  expect(asked).toEqual([5, 40]);
});

test("read on: where it ends within the range, the first part is given and the next call fetches the rest", async () => {
  const asked: number[] = [];
  const subject = reader(asked);
  await subject.readOn(GROUP, 0, 5, 512, signal);
  const slices = await subject.readOn(GROUP, 35, 45, 512, signal);
  expect(slices.map(({ from, end }) => [from, end])).toEqual([[35, 40]]);
  await subject.readOn(GROUP, 40, 45, 512, signal);
  expect(asked).toEqual([0, 40]);
});

test("read on: another group, an earlier offset and a plain read go to the log", async () => {
  const asked: number[] = [];
  const subject = reader(asked);
  await subject.readOn(GROUP, 50, 55, 512, signal);
  await subject.readOn(4 as GroupId, 50, 55, 512, signal);
  await subject.readOn(GROUP, 20, 25, 512, signal);
  await subject.read(GROUP, 25, 30, 512, signal);
  expect(asked).toEqual([50, 50, 20, 25]);
});

test("read on: of all groups no more is kept than the bound allows", async () => {
  const asked: number[] = [];
  const bytesEach = READ_AHEAD_BYTES_MAX / 100;
  const subject = reader(asked, { bytesEach });
  // Each keeps some 40 %: two fit, the third takes the place of the first.
  for (const group of [1, 2, 3, 2, 1]) await subject.readOn(group as GroupId, 0, 5, 512, signal);
  expect(asked).toHaveLength(4);
});

test("read: what is no longer held is an error, or what comes after it in the range", async () => {
  const subject = reader([], { start: 20 });
  await expect(subject.read(GROUP, 0, 20, 512, signal)).rejects.toMatchObject({ code: "OFFSET_OUT_OF_RANGE" });
  await expect(subject.readOn(GROUP, 0, 20, 512, signal)).rejects.toMatchObject({ code: "OFFSET_OUT_OF_RANGE" });
  const [slice] = await subject.read(GROUP, 0, 25, 512, signal);
  expect([slice!.from, slice!.end]).toEqual([20, 25]);
});
