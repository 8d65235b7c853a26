// A real segment log in a temporary folder.

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { Prng } from "../../src/base/prng.ts";
import type { GroupId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import type { DiskFile } from "../../src/log/disk.ts";
import { NodeDisk } from "../../src/log/node-disk.ts";
import { SegmentLog } from "../../src/log/segment-log.ts";
import type { GroupWrite } from "../../src/log/types.ts";
import { Entry, type HardState } from "../../src/raft/types.ts";
import { LOG_DATA, segmentKeys } from "../../src/store/keys.ts";
import { LevelKv } from "../../src/store/level-kv.ts";

/** A disk on which appends wait while they are held. */
export class HoldingDisk extends NodeDisk {
  private held: (() => void)[] | null = null;

  hold(): void {
    this.held = [];
  }

  release(): void {
    const held = this.held ?? [];
    this.held = null;
    for (const go of held) go();
  }

  override async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    const file = await super.open(path, options);
    const write = file.writeParts.bind(file);
    file.writeParts = (...call) => {
      if (this.held === null) write(...call);
      else this.held.push(() => write(...call));
    };
    return file;
  }
}

export class TestLog {
  readonly directory: string;
  readonly segmentBytes: number;
  readonly disk = new HoldingDisk();
  /** Lives on over restarts: a file's salt must not come again. */
  private readonly random = new Prng(7);
  isOnlyCopy = false;
  log!: SegmentLog;
  kv!: LevelKv;

  static async create(segmentBytes = 64 * 1024): Promise<TestLog> {
    const test = new TestLog(await mkdtemp(join(tmpdir(), "flotilla-log-")), segmentBytes);
    await test.open();
    return test;
  }

  constructor(directory: string, segmentBytes: number) {
    this.directory = directory;
    this.segmentBytes = segmentBytes;
  }

  get files(): string {
    return join(this.directory, "log");
  }

  async open(): Promise<void> {
    this.kv = await LevelKv.open(join(this.directory, "store"));
    try {
      this.log = await SegmentLog.open(
        { directory: this.files, segmentBytes: this.segmentBytes, isOnlyCopy: this.isOnlyCopy },
        { disk: this.disk, store: this.kv, keys: segmentKeys(LOG_DATA), random: this.random, logger: silentLogger },
      );
    } catch (error) {
      await this.kv.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.log.close();
    await this.kv.close();
  }

  async reopen(): Promise<void> {
    await this.close();
    await this.open();
  }

  append(writes: readonly GroupWrite[], sync = true): Promise<void> {
    return new Promise((resolve, reject) => this.log.append(writes, sync, (error) => (error === null ? resolve() : reject(error))));
  }

  /** Gives the log the appends that it needs to write what is live in dead files again. */
  async compact(rounds = 1): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      await this.log.compact();
      await this.append([]);
    }
  }

  /** So many seconds without a load, as the lane lets them pass. */
  async seconds(count: number): Promise<void> {
    for (let second = 0; second < count; second++) {
      this.log.secondPassed();
      for (let tick = 0; tick < 3; tick++) {
        await this.log.compact();
        if (this.log.hasOwnWrites) await this.append([]);
      }
    }
  }

  read(group: number, first: number, last: number, bytesMax = 1 << 20): Promise<readonly Entry[]> {
    return new Promise((resolve, reject) =>
      this.log.read(group as GroupId, first, last, bytesMax, (error, entries) => (error === null ? resolve(entries) : reject(error))),
    );
  }

  /** All entries of a group, however many reads it takes. */
  async readAll(group: number): Promise<Entry[]> {
    const state = this.log.groups().get(group as GroupId);
    const entries: Entry[] = [];
    if (state === undefined) return entries;
    for (let next = state.trimmed.index + 1; next <= state.lastIndex; next = entries[entries.length - 1]!.index + 1)
      entries.push(...(await this.read(group, next, state.lastIndex)));
    return entries;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => {});
    await rm(this.directory, { recursive: true, force: true });
  }
}

export function entry(index: number, term: number, payload: string): Entry {
  const bytes = Buffer.from(payload);
  return new Entry(index, term, 1, 1_000 + index, bytes, crc32(bytes));
}

export function write(group: number, entries: readonly Entry[], hardState: HardState | null = null): GroupWrite {
  return { group: group as GroupId, hardState, entries };
}

/** Entries as "term/index payload". */
export function text(entries: readonly Entry[]): string[] {
  return entries.map(({ index, term, payload }) => `${term}/${index} ${Buffer.from(payload).toString()}`);
}

/** The files of its segments, in the order of their numbers. */
export async function segmentFiles(test: TestLog): Promise<string[]> {
  return (await readdir(test.files))
    .filter((name) => name.endsWith(".seg"))
    .sort()
    .map((name) => join(test.files, name));
}
