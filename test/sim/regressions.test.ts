// What seeds have found, as small as it can be said; and those seeds.

import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { written } from "../../src/log/disk.ts";
import { SegmentLog } from "../../src/log/segment-log.ts";
import { ENTRY_RECORDS, Entry } from "../../src/raft/types.ts";
import { LOG_DATA, segmentKeys } from "../../src/store/keys.ts";
import { optionsOf } from "./options.ts";
import { DiskContents, SimDisk } from "./sim-disk.ts";
import { SimKv } from "./sim-kv.ts";
import { Simulation } from "./simulation.ts";
import { World, type Owner } from "./world.ts";

const GROUP = 1 as GroupId;
const owner: Owner = {
  name: "test",
  isDead: false,
  pausedUntilUs: 0,
  failed: (error) => {
    throw error;
  },
};

test("what a killed process had written and not synced is durable once the next one has read it", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const world = new World(seed);
    const contents = new DiskContents();
    const random = new Prng(seed);
    const run = async <T>(work: Promise<T>): Promise<T> => {
      await world.run(world.nowUs + 60_000_000);
      return work;
    };
    const open = async (): Promise<SegmentLog> => {
      const disk = new SimDisk(contents, { world, owner, random: world.random, effect: () => {} });
      const store = await SimKv.open("/store", disk, world, owner);
      const keys = segmentKeys(LOG_DATA);
      return SegmentLog.open({ directory: "/log", segmentBytes: 64 * 1024 }, { disk, store, keys, random, logger: silentLogger });
    };
    const log = await run(open());
    log.begin(GROUP, replicaId(1 as NodeId, 0), 0, 0);
    const append = (index: number, sync: boolean): Promise<void> =>
      new Promise((resolve, reject) => {
        const payload = Buffer.from(`entry ${index}`);
        const entry = new Entry(index, 1, ENTRY_RECORDS, 0, payload, crc32(payload));
        const hardState = { term: 1, vote: 0, commit: 0 };
        log.append([{ group: GROUP, hardState, entries: [entry] }], sync, (error) => (error === null ? resolve() : reject(error)));
      });
    await run(append(1, true));
    await run(append(2, false));
    contents.kill(world.random);
    const seen = (await run(open())).groups().get(GROUP)!.lastIndex;
    contents.cutPower(world.random);
    expect((await run(open())).groups().get(GROUP)!.lastIndex, `seed ${seed}`).toBe(seen);
  }
});

test("a file that was cut off and written on is not taken for a new one when the store is lost too", async () => {
  const world = new World(1);
  const contents = new DiskContents();
  const disk = new SimDisk(contents, { world, owner, random: world.random, effect: () => {} });
  const run = async <T>(work: Promise<T>): Promise<T> => {
    await world.run(world.nowUs + 60_000_000);
    return work;
  };
  const open = async (folder: string): Promise<SegmentLog> => {
    const store = await SimKv.open(folder, disk, world, owner);
    const components = { disk, store, keys: segmentKeys(LOG_DATA), random: new Prng(1), logger: silentLogger };
    return SegmentLog.open({ directory: "/log", segmentBytes: 64 * 1024 }, components);
  };
  const cut = async (): Promise<void> => {
    const file = await disk.open("/log/0000000001.seg", { create: true });
    await file.truncate(0);
    await written(file, Buffer.from("a batch"), 1200);
  };
  const log = await run(open("/store"));
  log.begin(GROUP, replicaId(1 as NodeId, 0), 0, 0);
  const vote = { group: GROUP, hardState: { term: 3, vote: 2, commit: 0 }, entries: [] };
  await run(new Promise<void>((resolve, reject) => log.append([vote], true, (error) => (error === null ? resolve() : reject(error)))));
  await run(log.close());
  await run(cut());
  const outcome = open("/another-store").then(
    () => "opened",
    (error: Error) => error.message,
  );
  expect(await run(outcome)).toContain("header is gone");
});

test.each([
  [5, "a leader that was replaced denied an offset that its successor had given out"],
  [13, "a restart closed the store under a deletion"],
  [45, "a replica that had been moved away was founded again by an older catalog, and elected a second leader"],
  [51, "a fetch failed with INTERNAL when the link to the leader had just gone"],
  [109, "a node whose disk was emptied was refused by peers whose catalog lagged, and gave up its data again and again"],
  [129, "two leaders in one term of a group that was deleted"],
])("seed %d: %s", { timeout: 60_000 }, async (seed) => {
  expect((await new Simulation(optionsOf({ seed, seconds: 30, transactions: 0 })).run()).failure).toBeNull();
});

test("seed 46: a node that lost its disk at its first start counted that anew, and the queue's active consumer of before was taken for one of its", async () => {
  const options = optionsOf({ seed: 46, seconds: 12, groups: 4, queues: 2, transactions: 0, floods: false });
  expect((await new Simulation(options).run()).failure).toBeNull();
});
