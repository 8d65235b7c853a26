// Archive files on a disk: no name before they are whole, nothing left of those that are not, and no name that leads elsewhere.

import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { ArchiveParser } from "../../src/base/archive-format.ts";
import { ARCHIVE_FILE_BYTES_MAX } from "../../src/base/limits.ts";
import { ArchiveFiles, archiveName } from "../../src/log/archive-files.ts";
import { readAt, type Disk } from "../../src/log/disk.ts";
import { DiskContents, SimDisk } from "../sim/sim-disk.ts";
import { World, type Owner } from "../sim/world.ts";
import { TestClock } from "../support/test-clock.ts";

const PLACE = { vhost: "/", topic: "..", partition: 0, group: 7 };
const FOLDER = "/d/archive/%2F/%2E./0-g7";
const WATERMARK_BYTES = 1_000_000;
const owner: Owner = {
  name: "test",
  isDead: false,
  pausedUntilUs: 0,
  failed: (error) => {
    throw error;
  },
};

type Work<T> = (archive: ArchiveFiles, disk: Disk) => Promise<T>;

async function on<T>(world: World, contents: DiskContents, work: Work<T>): Promise<T> {
  const disk = new SimDisk(contents, { world, owner, random: world.random, effect: () => {} });
  const settings = { directory: "/d/archive", watermarkBytes: WATERMARK_BYTES, clusterId: "c", nodeId: 1 };
  const settled = Promise.allSettled([work(new ArchiveFiles(settings, { disk, clock: new TestClock(), crc32 }), disk)]);
  await world.run(world.nowUs + 10_000_000);
  const [outcome] = await settled;
  if (outcome.status === "rejected") throw outcome.reason as Error;
  return outcome.value;
}

function batch(baseOffset: number): { baseOffset: number; count: number; timeMs: number; records: Uint8Array } {
  return { baseOffset, count: 10, timeMs: 1, records: new Uint8Array(100).fill(baseOffset) };
}

const writeOne: Work<void> = async (archive) => {
  const file = (await archive.begin(PLACE, 0))!;
  await file.add([batch(0), batch(10)]);
  await file.finish(20);
};

test("archive files: what is finished outlives a power cut, whole and under its name", async () => {
  for (let seed = 0; seed < 30; seed++) {
    const world = new World(seed);
    const contents = new DiskContents();
    await on(world, contents, writeOne);
    contents.cutPower(world.random);
    await on(world, contents, async (_archive, disk) => {
      const names = await disk.list(FOLDER);
      expect(names).toEqual(["0000000000000000-0000000000000020.records"]);
      const parser = new ArchiveParser(crc32);
      const bytes = await readAt(await disk.open(`${FOLDER}/${names[0]}`, { create: false }), 0, 10_000);
      const kinds = [...parser.push(bytes)].map(({ kind }) => kind);
      parser.done();
      expect(kinds).toEqual(["header", "batch", "batch", "end"]);
    });
  }
});

test("archive files: one that fails or is given up leaves nothing, and the next one goes well", async () => {
  const world = new World(1);
  const contents = new DiskContents();
  await on(world, contents, async (archive, disk) => {
    const given = (await archive.begin(PLACE, 0))!;
    await given.add([batch(0)]);
    await given.abandon();
    const failing = (await archive.begin(PLACE, 0))!;
    await failing.add([batch(0)]);
    contents.mood.failing = { calls: "sync", times: 1 };
    await expect(failing.finish(10)).rejects.toThrow("EIO");
    await failing.abandon();
    expect(await disk.list("/d/archive")).toEqual([]);
  });
  await on(world, contents, writeOne);
  await on(world, contents, async (_archive, disk) => expect(await disk.list(FOLDER)).toHaveLength(1));
});

test("archive files: what a crash left of one is no part of the next", async () => {
  const world = new World(1);
  const contents = new DiskContents();
  await on(world, contents, async (archive) => {
    const file = (await archive.begin(PLACE, 0))!;
    await file.add([batch(0), batch(10), batch(20), batch(30)]);
  });
  await on(world, contents, writeOne);
  await on(world, contents, async (_archive, disk) => {
    const file = await disk.open(`${FOLDER}/0000000000000000-0000000000000020.records`, { create: false });
    expect([...new ArchiveParser(crc32).push(await readAt(file, 0, 10_000))]).toHaveLength(4);
  });
});

test("archive files: none is begun where the disk would come near its watermark", async () => {
  const world = new World(1);
  const contents = new DiskContents();
  contents.mood.capacityBytes = ARCHIVE_FILE_BYTES_MAX + WATERMARK_BYTES * 1.4;
  expect(await on(world, contents, (archive) => archive.begin(PLACE, 0))).toBeNull();
  contents.mood.capacityBytes = ARCHIVE_FILE_BYTES_MAX + WATERMARK_BYTES * 1.6;
  await on(world, contents, writeOne);
});

test("archive files: a name from outside is one of a file, and no two are the same", () => {
  const names = ["/", "..", ".", "a/b", "a%2Fb", "é", "a.b", "-_9Z"];
  const made = names.map(archiveName);
  expect(made).toEqual(["%2F", "%2E.", "%2E", "a%2Fb", "a%252Fb", "%C3%A9", "a.b", "-_9Z"]);
});
