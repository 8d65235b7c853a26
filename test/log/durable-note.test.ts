// Two places tell how far a log was durable, the store and a file beside the segments: as long as one of them is left, an end that
// is gone does not pass for one that a crash tore.

import { cp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import type { GroupId, ReplicaId } from "../../src/base/ids.ts";
import { LogCorruptError, LogVersionError } from "../../src/log/errors.ts";
import { entry, TestLog, text, write } from "../support/log.ts";

const SEGMENT_BYTES = 16 * 1024;
const SLOT_BYTES = 4096;

const noteOf = (log: TestLog): string => join(log.files, "durable");
const loseStore = (log: TestLog): Promise<void> => rm(join(log.directory, "store"), { recursive: true });

async function newestFile(log: TestLog): Promise<string> {
  const names = (await readdir(log.files)).filter((name) => name.endsWith(".seg")).sort();
  for (const name of names.reverse()) {
    const bytes = await readFile(join(log.files, name));
    if (bytes.includes("FLBA")) return join(log.files, name);
  }
  throw new Error("nothing was written");
}

/** An entry, then a vote; closed as a process that was killed leaves it. Where the vote's batch lies in the newest file. */
async function voted(): Promise<{ log: TestLog; votedAt: number }> {
  const log = await TestLog.create(SEGMENT_BYTES);
  log.log.begin(1 as GroupId, 1025 as ReplicaId, 1, 0);
  await log.append([write(1, [entry(2, 1, "a")], { term: 1, vote: 1, commit: 1 })]);
  const before = await readFile(await newestFile(log));
  const votedAt = before.lastIndexOf("FLBA");
  await log.append([write(1, [], { term: 2, vote: 3, commit: 1 })]);
  const after = await readFile(await newestFile(log));
  await log.close();
  return { log, votedAt: after.indexOf("FLBA", votedAt + 1) };
}

/** The vote's batch was never written, as far as the file tells. */
async function loseVote({ log, votedAt }: { log: TestLog; votedAt: number }): Promise<void> {
  const file = await newestFile(log);
  const bytes = await readFile(file);
  await writeFile(file, bytes.fill(0, votedAt));
}

test("log: a vote that is gone from the end is missed at once, and without the store as well", async () => {
  for (const lose of [() => Promise.resolve(), loseStore]) {
    const parts = await voted();
    await using log = parts.log;
    await lose(log);
    await loseVote(parts);
    await expect(log.open()).rejects.toThrow(LogCorruptError);
  }
});

test("log: either half of the note tells, and the store does if none is left", async () => {
  for (const lose of [
    async (note: Buffer) => note.fill(0, 0, SLOT_BYTES),
    async (note: Buffer) => note.fill(0, SLOT_BYTES),
    async (note: Buffer) => note.subarray(0, 10),
  ]) {
    await using log = await TestLog.create(SEGMENT_BYTES);
    await log.append([write(1, [entry(1, 1, "a")], { term: 1, vote: 1, commit: 0 })]);
    log.log.noteDurable();
    await log.close();
    await writeFile(noteOf(log), await lose(await readFile(noteOf(log))));
    const file = await newestFile(log);
    const whole = await readFile(file);
    await writeFile(file, Buffer.from(whole).fill(0, whole.indexOf("FLBA")));
    await expect(log.open()).rejects.toThrow(LogCorruptError);
    await writeFile(file, whole);
    await log.open();
    expect(text(await log.readAll(1))).toEqual(["1/1 a"]);
  }
});

test("log: where nobody tells how far it went it is refused, unless nobody else has what it holds", async () => {
  const { log: first } = await voted();
  await using log = first;
  await rm(noteOf(log));
  await log.reopen();
  await log.close();
  await loseStore(log);
  await truncate(noteOf(log), 0);
  await expect(log.open()).rejects.toThrow("neither the store nor the file beside the log");
  // Asking again does not make it known.
  await expect(log.open()).rejects.toThrow("neither the store nor the file beside the log");
  log.isOnlyCopy = true;
  await log.open();
  expect(log.log.groups().get(1 as GroupId)!.hardState).toEqual({ term: 2, vote: 3, commit: 1 });
});

test("log: a note that was damaged is good again after a scrub, and after a start", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  await log.append([write(1, [entry(1, 1, "a")], { term: 1, vote: 1, commit: 0 })]);
  const good = await readFile(noteOf(log));
  for (const again of [() => log.log.scrub(async () => {}), () => log.reopen()]) {
    await writeFile(noteOf(log), Buffer.alloc(good.length, 7));
    await again();
    await log.reopen();
    for (const at of [0, SLOT_BYTES]) expect((await readFile(noteOf(log))).subarray(at, at + 4).toString()).toBe("FLDN");
  }
});

test("log: a note of a newer release is refused", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  await log.close();
  const note = await readFile(noteOf(log));
  note.writeUInt16LE(2, 4);
  note.writeUInt32LE(crc32(note.subarray(0, 20)), 20);
  await writeFile(noteOf(log), note);
  await expect(log.open()).rejects.toThrow(LogVersionError);
});

test("log: files may be made larger than they were, though the store is lost and a spare one is small", async () => {
  const log = await TestLog.create(SEGMENT_BYTES);
  await log.append([write(1, [entry(1, 1, "a")], { term: 1, vote: 1, commit: 0 })]);
  await log.close();
  await loseStore(log);
  // Made by a process that ended before it could say what it is for.
  await writeFile(join(log.files, "0000000009.seg"), Buffer.alloc(SEGMENT_BYTES));
  await using larger = new TestLog(log.directory, 2 * SEGMENT_BYTES);
  await larger.open();
  expect(text(await larger.readAll(1))).toEqual(["1/1 a"]);
});

test("log: without the store a file that is free is told from one in use whose beginning is gone", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  log.log.attach({ committedOf: () => 1_000, damaged: () => {} });
  for (let index = 1; index <= 100; index++) {
    await log.append([write(1, [entry(index, 1, "x".repeat(1_000))], { term: 1, vote: 1, commit: index })]);
    // The last ones stay.
    if (index % 10 === 0 && index <= 60) log.log.trim(1 as GroupId, index, 1);
  }
  log.log.noteDurable();
  await log.close();
  await loseStore(log);
  const good = `${log.directory}.good`;
  await cp(log.directory, good, { recursive: true });
  const opened: string[] = [];
  for (const name of (await readdir(log.files)).filter((one) => one.endsWith(".seg")).sort()) {
    const file = join(log.files, name);
    const bytes = await readFile(file);
    const firstSequence = bytes.readUInt32LE(16);
    await writeFile(file, bytes.fill(0, 0, SLOT_BYTES));
    const isRefused = await log.open().then(
      async () => {
        await log.close();
        return false;
      },
      (error: unknown) => {
        expect(error, name).toBeInstanceOf(LogCorruptError);
        return true;
      },
    );
    // A newest file, made ready, may lose what says that it is free.
    if (!isRefused) expect(firstSequence, name).toBe(0);
    if (!isRefused) opened.push(name);
    await rm(log.directory, { recursive: true });
    await cp(good, log.directory, { recursive: true });
  }
  expect(opened.length).toBeLessThan(3);
  await rm(good, { recursive: true });
  // Nothing is wrong: the free ones are known by their headers.
  await log.open();
  expect((await log.readAll(1)).at(-1)!.index).toBe(100);
});
