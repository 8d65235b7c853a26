import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { Checkpoints, type StoredCheckpoint } from "../../src/store/checkpoints.ts";
import type { Kv, KvOperation } from "../../src/store/kv.ts";
import { LevelKv } from "../../src/store/level-kv.ts";

const CONFIGURATION = { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

function checkpoint(index: number, bytes = 40): StoredCheckpoint {
  return {
    index,
    term: 1,
    configuration: CONFIGURATION,
    machineVersion: 1,
    timeMs: 5,
    digest: null,
    snapshot: new Uint8Array(bytes).fill(index),
  };
}

/** LevelDB, with a list of the writes that it was given; `failure` is what the next one comes to. */
class WatchedKv implements Kv {
  readonly writes: { operations: number; sync: boolean }[] = [];
  failure: Error | null = null;
  /** The last write; and what answers to the question for keys wait for. */
  written: Promise<void> = Promise.resolve();
  gate: Promise<void> = Promise.resolve();
  private readonly kv: Kv;

  constructor(kv: Kv) {
    this.kv = kv;
  }
  async batch(operations: readonly KvOperation[], options: { readonly sync: boolean }): Promise<void> {
    this.writes.push({ operations: operations.length, sync: options.sync });
    if (this.failure !== null) throw this.failure;
    this.written = this.kv.batch(operations, options);
    await this.written;
  }
  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.kv.get(key);
  }
  entries(prefix: Uint8Array): ReturnType<Kv["entries"]> {
    return this.kv.entries(prefix);
  }
  async keys(prefix: Uint8Array): ReturnType<Kv["keys"]> {
    const keys = await this.kv.keys(prefix);
    await this.gate;
    return keys;
  }
  close(): Promise<void> {
    return this.kv.close();
  }
}

async function withStore(work: (checkpoints: Checkpoints, kv: WatchedKv) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-checkpoints-"));
  const kv = new WatchedKv(await LevelKv.open(directory));
  try {
    await work(new Checkpoints(kv), kv);
  } finally {
    await kv.close();
    await rm(directory, { recursive: true, force: true });
  }
}

const groups = (count: number): GroupId[] => Array.from({ length: count }, (_, at) => (at + 1) as GroupId);

test("checkpoints: what a thousand groups save at one time goes with two synced writes, and each can be read", async () => {
  await withStore(async (checkpoints, kv) => {
    const all = groups(1_000);
    await Promise.all(all.map((group) => checkpoints.save(group, checkpoint(group))));
    // The first one goes at once; what came meanwhile is the second.
    expect(kv.writes).toEqual([
      { operations: 2, sync: true },
      { operations: 1_998, sync: true },
    ]);
    for (const group of [1, 2, 999, 1_000] as GroupId[]) expect(await checkpoints.read(group, group)).toEqual(checkpoint(group));
  });
});

test("checkpoints: one write carries no more than its bound", async () => {
  await withStore(async (checkpoints, kv) => {
    await Promise.all(groups(10).map((group) => checkpoints.save(group, checkpoint(group, 1024 * 1024))));
    expect(kv.writes).toHaveLength(4);
    expect(await checkpoints.read(10 as GroupId, 10)).toEqual(checkpoint(10, 1024 * 1024));
  });
});

test("checkpoints: a write that fails is told to everybody in it, and to nobody else", async () => {
  await withStore(async (checkpoints, kv) => {
    kv.failure = new Error("no such luck");
    const saved = await Promise.allSettled(groups(3).map((group) => checkpoints.save(group, checkpoint(group))));
    expect(saved.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    kv.failure = null;
    await checkpoints.save(9 as GroupId, checkpoint(9));
    expect(await checkpoints.read(9 as GroupId, 9)).toEqual(checkpoint(9));
  });
});

test("checkpoints: of groups that are deleted nothing is left, not even what was still to be saved", async () => {
  await withStore(async (checkpoints, kv) => {
    const all = groups(700);
    await Promise.all(all.map((group) => checkpoints.save(group, checkpoint(1))));
    const late = all.map((group) => checkpoints.save(group, checkpoint(2, 100_000)));
    kv.writes.length = 0;
    await checkpoints.deleteGroups(all.slice(1));
    await Promise.all(late);
    expect(kv.writes.filter(({ sync }) => !sync)).toHaveLength(2);
    expect(await kv.keys(new Uint8Array([0x63]))).toHaveLength(2);
    expect(await kv.keys(new Uint8Array([0x64]))).toHaveLength(3);
  });
});

test("checkpoints: what is saved while older ones are being deleted stays", async () => {
  const group = 1 as GroupId;
  const removals: readonly ((checkpoints: Checkpoints) => Promise<void>)[] = [
    (checkpoints) => checkpoints.deleteGroups([group]),
    (checkpoints) => checkpoints.deleteBelow(group, 6),
    (checkpoints) => checkpoints.delete(group, new Set([5])),
  ];
  for (const [at, remove] of removals.entries())
    await withStore(async (checkpoints, kv) => {
      await checkpoints.save(group, checkpoint(5, 100_000));
      let open = (): void => {};
      kv.gate = new Promise((resolve) => (open = resolve));
      const removed = remove(checkpoints);
      // A successor of the replica begins with a state at the same place.
      const saved = checkpoints.save(group, checkpoint(5, 200_000));
      await kv.written;
      open();
      await Promise.all([removed, saved]);
      expect(await checkpoints.read(group, 5), `removal ${at}`).toEqual(checkpoint(5, 200_000));
    });
});

test("checkpoints: of many of one group each is listed, however many rows one look takes", async () => {
  await withStore(async (checkpoints) => {
    const [group, next] = groups(2) as [GroupId, GroupId];
    const indexes = Array.from({ length: 50 }, (_, at) => at * 3 + 1);
    for (const index of indexes) await checkpoints.save(group, checkpoint(index));
    await checkpoints.save(next, checkpoint(7));
    expect(await checkpoints.list(group)).toEqual(indexes);
    expect((await checkpoints.read(group, 100))?.index).toBe(100);
    await checkpoints.deleteBelow(group, 100);
    expect(await checkpoints.list(group)).toEqual(indexes.filter((index) => index >= 100));
    expect(await checkpoints.list(next)).toEqual([7]);
  });
});
