// The slow round: what it finds, and what it costs.

import { readFile, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { entry, segmentFiles, TestLog, write } from "../support/log.ts";

test("scrubber: a round reads the entries of many groups together, and holds damage against the one that it touches", async () => {
  await using log = await TestLog.create(1024 * 1024);
  const groups = Array.from({ length: 500 }, (_, at) => at + 1);
  await log.append(groups.map((group) => write(group, [entry(1, 1, `first of ${group}.`), entry(2, 1, `second of ${group}.`)])));
  // One with so many that they are read for themselves.
  await log.append([
    write(
      501,
      Array.from({ length: 100 }, (_, at) => entry(at + 1, 1, `many ${at}`)),
    ),
  ]);
  const damaged: GroupId[] = [];
  log.log.attach({ committedOf: () => 2, damaged: (group) => damaged.push(group) });
  const scrub = async (): Promise<number> => {
    let reads = 0;
    await log.log.scrub(() => Promise.resolve(void (reads += 1)));
    return reads;
  };
  expect(await scrub()).toBeLessThan(10);
  expect(damaged).toEqual([]);
  const [file] = await segmentFiles(log);
  const bytes = await readFile(file!);
  for (const what of ["second of 77.", "many 50"]) bytes[bytes.indexOf(what)]! ^= 1;
  await writeFile(file!, bytes);
  await scrub();
  expect(damaged.sort((a, b) => a - b)).toEqual([77, 501]);
});

test("scrubber: a round reads many tiny batches of the newest file together, and finds damage between its entries", async () => {
  await using log = await TestLog.create(1024 * 1024);
  const batches = 400;
  for (let index = 1; index <= batches; index++)
    await log.append([write(1, [entry(index, 1, `record ${index}`)], { term: 1, vote: 2, commit: index - 1 })]);
  log.log.trim(1 as GroupId, batches - 1, 1);
  await log.append([write(1, [entry(batches + 1, 1, "x".repeat(300_000))])]);
  const scrub = async (): Promise<number> => {
    let reads = 0;
    await log.log.scrub(() => Promise.resolve(void (reads += 1)));
    await log.append([]);
    return reads;
  };
  expect(await scrub()).toBeLessThan(10);
  expect(log.log.stats().segments).toBe(1);
  const [file] = await segmentFiles(log);
  const bytes = await readFile(file!);
  // The header of a record in the middle, of an entry that does not count any more.
  bytes[bytes.indexOf("record 200") - 1]! ^= 1;
  await writeFile(file!, bytes);
  await scrub();
  await log.append([write(1, [entry(batches + 2, 1, "in another file")])]);
  expect(log.log.stats().segments).toBe(2);
});

test("scrubber: a round that is told to stop declares nothing damaged", async () => {
  await using log = await TestLog.create(1024 * 1024);
  const many = Array.from({ length: 100 }, (_, at) => entry(at + 1, 1, `many ${at}`));
  await log.append([write(1, many), write(2, [entry(1, 1, "one")])]);
  const damaged: GroupId[] = [];
  log.log.attach({ committedOf: () => 100, damaged: (group) => damaged.push(group) });
  for (const paces of [0, 1, 2]) {
    let left = paces;
    const pace = (): Promise<void> => (left-- > 0 ? Promise.resolve() : Promise.reject(new Error("stopped")));
    await expect(log.log.scrub(pace)).rejects.toThrow("stopped");
  }
  expect(damaged).toEqual([]);
});
