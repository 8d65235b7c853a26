// What the log's files take on disk: what is live, and at rest no more than two files beside it.

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { entry, TestLog, text, write } from "../support/log.ts";

const SEGMENT_BYTES = 16 * 1024;
const BODY = "b".repeat(1_000);
/** Spare files go after five quiet seconds, calm ones are emptied after five more. */
const SECONDS_MAX = 20;

async function filesOf(log: TestLog): Promise<number> {
  return (await readdir(log.files)).filter((name) => name.endsWith(".seg")).length;
}

function attach(log: TestLog): void {
  log.log.attach({ committedOf: () => Number.MAX_SAFE_INTEGER, damaged: (group, reason) => expect.fail(`${group}: ${reason}`) });
}

/** A record of group 1 that stays, then so much of group 2, of which the last is kept. */
async function pinned(count = 200): Promise<TestLog> {
  const log = await TestLog.create(SEGMENT_BYTES);
  attach(log);
  await log.append([write(1, [entry(1, 1, "pinned")], { term: 1, vote: 1, commit: 1 }), write(3, [], { term: 7, vote: 2, commit: 0 })]);
  for (let index = 1; index <= count; index++) {
    await log.append([write(2, [entry(index, 1, BODY)])]);
    if (index % 100 === 0) log.log.trim(2 as GroupId, index - 10, 1);
  }
  log.log.trim(2 as GroupId, count - 1, 1);
  await log.append([]);
  return log;
}

async function holdsAll(log: TestLog, count = 200): Promise<void> {
  expect(text(await log.readAll(1))).toEqual(["1/1 pinned"]);
  expect((await log.readAll(2)).map(({ index }) => index)).toEqual([count]);
  expect(log.log.groups().get(3 as GroupId)!.hardState).toEqual({ term: 7, vote: 2, commit: 0 });
}

test("log: at rest one pinned record leaves one file on disk, the one in use, through any restart", async () => {
  await using log = await pinned();
  // Files are kept for reuse while they are begun one after the other.
  expect(await filesOf(log)).toBeGreaterThan(4);
  await log.seconds(SECONDS_MAX);
  expect(await filesOf(log)).toBe(1);
  expect(log.log.stats()).toMatchObject({ segments: 1, segmentsFree: 0, bytesOnDisk: SEGMENT_BYTES });
  for (let round = 0; round < 2; round++) {
    await holdsAll(log);
    await log.reopen();
    attach(log);
  }
  expect(await filesOf(log)).toBe(2);
});

test("log: one that nothing was ever written to keeps a file, as a folder without any is taken for lost", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  attach(log);
  await log.seconds(SECONDS_MAX);
  expect(await filesOf(log)).toBe(1);
});

test("log: however quickly files are begun, each of them is in use, ready, or gone", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  attach(log);
  const large = "l".repeat(SEGMENT_BYTES);
  for (let index = 1; index <= 60; index++) await log.append([write(1, [entry(index, 1, large)])]);
  await log.log.compact();
  const { segments, segmentsFree } = log.log.stats();
  expect(segments).toBe(60);
  expect(await filesOf(log)).toBe(segments + segmentsFree);
});

test("log: under a slow load the next file is there once the one in use is half full, and not before; at rest not even then", async () => {
  await using log = await TestLog.create(16 * 1024);
  const rest = async (seconds = 10): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      log.log.secondPassed();
      await log.log.compact();
    }
  };
  await log.append([write(1, [entry(1, 1, "x".repeat(4_000))])]);
  await rest();
  expect(log.log.stats()).toMatchObject({ segments: 1, segmentsFree: 0 });
  await log.append([write(1, [entry(2, 1, "x".repeat(5_000))])]);
  await rest();
  expect(log.log.stats()).toMatchObject({ segments: 1, segmentsFree: 1 });
  await rest(20);
  expect(log.log.stats()).toMatchObject({ segments: 1, segmentsFree: 0 });
  // It goes on from any state, and so does a restart.
  for (let index = 3; index < 12; index++) await log.append([write(1, [entry(index, 1, "x".repeat(4_000))])]);
  await log.reopen();
  expect((await log.readAll(1)).map(({ index }) => index)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
});

test("log: spare files go one a second, and only once no file was begun for some seconds", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  attach(log);
  const seen: number[] = [];
  for (let index = 1; index <= 120; index++) {
    await log.append([write(1, [entry(index, 1, BODY)])]);
    if (index % 30 !== 0) continue;
    if (index % 60 === 0) log.log.trim(1 as GroupId, index - 1, 1);
    // A file is begun between any two of these.
    await log.seconds(2);
    seen.push(await filesOf(log));
  }
  expect(seen[seen.length - 1]).toBeGreaterThan(3);
  const left: number[] = [];
  for (let second = 0; second < 12; second++) {
    await log.seconds(1);
    left.push(await filesOf(log));
  }
  const first = left.findIndex((files) => files < seen[seen.length - 1]!);
  expect(first).toBeGreaterThanOrEqual(2);
  for (let at = first + 1; at < left.length; at++) expect(left[at - 1]! - left[at]!).toBeLessThanOrEqual(1);
  expect(left[left.length - 1]).toBe(2);
});

test("log: a file that died while it was read goes without waiting for somebody's write", async () => {
  await using log = await TestLog.create(SEGMENT_BYTES);
  attach(log);
  for (let index = 1; index <= 20; index++) await log.append([write(1, [entry(index, 1, BODY)])]);
  let started = (): void => {};
  let readOn = (): void => {};
  const isReading = new Promise<void>((resolve) => (started = resolve));
  const mayReadOn = new Promise<void>((resolve) => (readOn = resolve));
  const reading = log.log.scrub(() => {
    started();
    return mayReadOn;
  });
  await isReading;
  log.log.trim(1 as GroupId, 19, 1);
  await log.append([]);
  await log.seconds(1);
  expect(log.log.stats().segments).toBe(2);
  readOn();
  await reading;
  await log.seconds(2);
  expect(log.log.stats().segments).toBe(1);
});

test("log: a restart after any second of giving space back finds everything", async () => {
  await using log = await pinned();
  for (let second = 1; second <= 12; second++) {
    await log.seconds(second);
    await log.reopen();
    attach(log);
    await holdsAll(log);
  }
  await log.seconds(SECONDS_MAX);
  expect(await filesOf(log)).toBeLessThanOrEqual(2);
});

test("log: a crash at any call to the disk while space is given back loses nothing, and the space comes back later", async () => {
  for (let failing = 0; ; failing++) {
    await using log = await pinned(80);
    const { disk } = log;
    let calls = 0;
    const guard = (): void => {
      if (calls++ === failing) throw new Error("the process ends here");
    };
    const [remove, sync] = [disk.remove.bind(disk), disk.syncDirectory.bind(disk)];
    disk.remove = async (path) => {
      guard();
      await remove(path);
    };
    disk.syncDirectory = async (path) => {
      guard();
      await sync(path);
    };
    const died = await log.seconds(SECONDS_MAX).then(
      () => false,
      () => true,
    );
    disk.remove = remove;
    disk.syncDirectory = sync;
    await log.reopen();
    attach(log);
    await holdsAll(log, 80);
    await log.seconds(SECONDS_MAX);
    expect(await filesOf(log), `failed at call ${failing}`).toBeLessThanOrEqual(2);
    if (calls > failing) continue;
    expect(died).toBe(false);
    expect(failing).toBeGreaterThan(4);
    return;
  }
});

test("log: under a steady load with retention next to nothing is written twice, whatever is kept", { timeout: 120_000 }, async () => {
  for (const keep of [4, 12, 20, 40, 70]) {
    await using log = await TestLog.create(SEGMENT_BYTES);
    attach(log);
    await log.append([write(1, [entry(1, 1, "pinned")])]);
    let most = 0;
    for (let index = 1; index <= 1_000; index++) {
      await log.append([write(2, [entry(index, 1, BODY)])]);
      // Every second a fifth of a file is written and as much trimmed.
      if (index % 3 !== 0) continue;
      if (index > keep) log.log.trim(2 as GroupId, index - keep, 1);
      await log.seconds(1);
      const { segments, bytesLive } = log.log.stats();
      most = Math.max(most, segments * SEGMENT_BYTES - bytesLive);
    }
    const { bytesMoved, bytesAppended } = log.log.stats();
    expect(bytesMoved / bytesAppended, `${keep} kept`).toBeLessThan(0.02);
    expect(most, `${keep} kept`).toBeLessThanOrEqual(3 * SEGMENT_BYTES);
    expect(text(await log.readAll(1))).toEqual(["1/1 pinned"]);
  }
});

test("log: a disk that fails while files are begun, freed or opened leaves no file open", async () => {
  for (let failing = 0; ; failing++) {
    await using log = await TestLog.create(SEGMENT_BYTES);
    for (let index = 1; index <= 30; index++) await log.append([write(1, [entry(index, 1, BODY)])]);
    // The one made ready is found again; without it there is none to begin with.
    await log.close();
    const files = (await readdir(log.files)).filter((name) => name.endsWith(".seg")).sort();
    await rm(join(log.files, files[files.length - 1]!));
    const { disk } = log;
    const [open, rename, sync] = [disk.open.bind(disk), disk.rename.bind(disk), disk.syncDirectory.bind(disk)];
    let calls = 0;
    let openFiles = 0;
    const guard = (): void => {
      if (calls++ === failing) throw new Error("no space");
    };
    disk.open = async (path, options) => {
      const file = await open(path, options);
      openFiles += 1;
      const [close, truncate] = [file.close.bind(file), file.truncate.bind(file)];
      file.close = async () => {
        openFiles -= 1;
        await close();
      };
      file.truncate = async (bytes) => {
        guard();
        await truncate(bytes);
      };
      return file;
    };
    disk.rename = async (from, to) => {
      guard();
      await rename(from, to);
    };
    disk.syncDirectory = async (path) => {
      guard();
      await sync(path);
    };
    const isDone = await log.open().then(
      async () => {
        let hasFailed = false;
        for (let index = 31; index <= 90 && !hasFailed; index++) {
          hasFailed = await log.append([write(1, [entry(index, 1, BODY)])]).then(
            () => false,
            () => true,
          );
          if (!hasFailed) log.log.trim(1 as GroupId, index - 1, 1);
          await log.log.compact();
        }
        await log.close();
        return !hasFailed && calls <= failing;
      },
      () => false,
    );
    expect(openFiles, `failed at call ${failing}`).toBe(0);
    Object.assign(disk, { open, rename, syncDirectory: sync });
    await log.open();
    if (!isDone) continue;
    expect(failing).toBeGreaterThan(6);
    return;
  }
});
