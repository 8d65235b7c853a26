// What the simulated disk and store forget, and what they must not.

import { expect, test } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { readAt, synced, written, type Disk } from "../../src/log/disk.ts";
import { DiskContents, SimDisk } from "./sim-disk.ts";
import { Inode } from "./sim-inode.ts";
import { KvStorage } from "./sim-kv.ts";
import { World, type Owner } from "./world.ts";

const owner: Owner = {
  name: "test",
  isDead: false,
  pausedUntilUs: 0,
  failed: (error) => {
    throw error;
  },
};

/** Runs work on a disk in virtual time. */
async function on<T>(world: World, contents: DiskContents, work: (disk: Disk) => Promise<T>): Promise<T> {
  const result = work(new SimDisk(contents, { world, owner, random: world.random, effect: () => {} }));
  await world.run(world.nowUs + 10_000_000);
  return result;
}

test("a power cut leaves what was synced, and of the rest any part", async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const world = new World(seed);
    const contents = new DiskContents();
    await on(world, contents, async (disk) => {
      const file = await disk.open("/d/f", { create: true });
      await written(file, Buffer.from("old!"), 0);
      await synced(file);
      await disk.syncDirectory("/d");
      await written(file, Buffer.from("new!"), 0);
      await written(file, Buffer.from("more"), 8_192);
    });
    contents.cutPower(world.random);
    const text = await on(world, contents, async (disk) =>
      Buffer.from(await readAt(await disk.open("/d/f", { create: false }), 0, 9_000)).toString(),
    );
    expect(["old!", "new!", "nld!", "ned!", "new!"]).toContain(text.slice(0, 4));
    seen.add(`${text.slice(0, 4)} ${text.slice(8_192)}`);
  }
  expect(seen).toContain("old! ");
  expect(seen).toContain("new! more");
});

test("a file whose folder was not synced may be gone, and a rename undone", async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 40; seed++) {
    const world = new World(seed);
    const contents = new DiskContents();
    await on(world, contents, async (disk) => {
      await synced(await disk.open("/d/a", { create: true }));
      await disk.syncDirectory("/d");
      await disk.rename("/d/a", "/d/b");
      await synced(await disk.open("/d/c", { create: true }));
    });
    contents.cutPower(world.random);
    seen.add((await on(world, contents, (disk) => disk.list("/d"))).join(" "));
  }
  expect([...seen].sort()).toEqual(["a", "b", "b c"]);
});

test("a store keeps what came before a synced batch, and of the rest the older part", () => {
  const kept = new Set<string>();
  for (let seed = 0; seed < 30; seed++) {
    const store = new KvStorage();
    store.write([["a", Buffer.from("1")]], false);
    store.write([["b", Buffer.from("1")]], true);
    store.write([["c", Buffer.from("1")]], false);
    store.write([["d", Buffer.from("1")]], false);
    store.cutPower(new World(seed).random);
    kept.add([...store.rows.keys()].join(""));
  }
  expect([...kept].sort()).toEqual(["ab", "abc", "abcd"]);
});

test("what a failed sync has forgotten no later sync brings back", async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 40; seed++) {
    const world = new World(seed);
    const contents = new DiskContents();
    await on(world, contents, async (disk) => {
      const file = await disk.open("/d/f", { create: true });
      await written(file, Buffer.from("old!"), 0);
      await synced(file);
      await disk.syncDirectory("/d");
      await written(file, Buffer.from("new!"), 0);
      contents.mood.failing = { calls: "sync", times: 1 };
      await expect(synced(file)).rejects.toThrow("EIO");
      await synced(file);
      seen.add(Buffer.from(await readAt(file, 0, 4)).toString());
    });
    contents.cutPower(world.random);
    const text = await on(world, contents, async (disk) =>
      Buffer.from(await readAt(await disk.open("/d/f", { create: false }), 0, 4)).toString(),
    );
    expect(text).toBe("old!");
  }
  // The cache shows either, for as long as the power is on.
  expect([...seen].sort()).toEqual(["new!", "old!"]);
});

test("what was under way when a process was killed happened, or not, or in part", async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const world = new World(seed);
    const contents = new DiskContents();
    await on(world, contents, async (disk) => written(await disk.open("/d/f", { create: true }), Buffer.from("old!"), 0));
    const owner_ = { ...owner, isDead: false };
    const disk = new SimDisk(contents, { world, owner: owner_, random: world.random, effect: () => {} });
    const file = contents.names.get("/d/f")!;
    const opened = disk.open("/d/f", { create: false });
    await world.run(world.nowUs + 1_000_000);
    (await opened).write(Buffer.from("new!"), 0, 4, 0, () => {});
    owner_.isDead = true;
    contents.kill(world.random);
    seen.add(Buffer.from(file.read(0, 4)).toString());
  }
  expect(seen).toContain("old!");
  expect(seen).toContain("new!");
  expect(seen.size).toBeGreaterThan(2);
});

test("a store whose log is damaged loses batches from the middle, and has again what they had overwritten", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const store = new KvStorage();
    for (let count = 0; count < 6; count++) store.write([["a", Buffer.alloc(20_000, count)]], true);
    store.write([["b", Buffer.from("1")]], true);
    expect(store.makeHole(new World(seed).random)).toBeGreaterThan(0);
    seen.add(`${store.rows.get("a")?.[0]} ${store.rows.has("b")}`);
  }
  expect(seen).toContain("3 true");
  expect(seen).toContain("5 false");
});

test("what is written to a store behind a write that failed is gone at its next start", () => {
  const store = new KvStorage();
  store.write([["a", Buffer.from("1")]], true);
  store.writeFailed();
  store.write([["b", Buffer.from("1")]], true);
  expect([...store.rows.keys()]).toEqual(["a", "b"]);
  store.recover();
  expect([...store.rows.keys()]).toEqual(["a"]);
});

test("pages that files give back and take again never lead from one file into another", () => {
  const random = new Prng(5);
  const files = Array.from({ length: 3 }, () => ({ inode: new Inode(), model: new Uint8Array(40_000), durable: new Uint8Array(40_000) }));
  const under: (() => void)[] = [];
  for (let step = 0; step < 3_000; step++) {
    const file = files[random.below(files.length)]!;
    const what = random.below(8);
    if (what < 5) {
      const position = random.below(39_000);
      const bytes = new Uint8Array(1 + random.below(900)).fill(random.below(256));
      file.inode.write(position, bytes);
      file.model.set(bytes, position);
    } else if (what < 7) {
      const covered = file.inode.beginSync();
      const { size } = file.inode;
      const model = file.model.slice();
      under.push(() => {
        file.inode.synced(covered, size);
        file.durable = model;
      });
      // Of some syncs the end comes later, after others have begun.
      if (random.below(3) > 0) for (const end of under.splice(0)) end();
    }
    for (const { inode, model } of files) expect(Buffer.compare(inode.read(0, 40_000), model.subarray(0, inode.size))).toBe(0);
  }
  for (const end of under.splice(0)) end();
  for (const { inode, durable } of files) {
    // Nothing of what was not synced: every draw is the lowest.
    inode.cutPower({ below: () => 0 });
    const { size } = inode;
    expect(Buffer.compare(inode.read(0, size), durable.subarray(0, size))).toBe(0);
  }
});
