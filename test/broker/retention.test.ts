// Retention over real hosts: by schedule, and archived before it is trimmed, whoever leads.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { ArchiveParser } from "../../src/base/archive-format.ts";
import type { GroupId } from "../../src/base/ids.ts";
import { Pacer } from "../../src/base/pacer.ts";
import { Archiver } from "../../src/broker/archiver.ts";
import { Retention } from "../../src/broker/retention.ts";
import { ArchiveFiles, type Archive } from "../../src/log/archive-files.ts";
import { NodeDisk } from "../../src/log/node-disk.ts";
import type { TopicRow } from "../../src/machine/catalog/catalog.ts";
import type { ConfigRow } from "../../src/machine/catalog/rows.ts";
import type { StreamMachine } from "../../src/machine/stream/stream.ts";
import { ENTRY_COMMAND, ENTRY_RECORDS } from "../../src/raft/types.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { CONFIG } from "../machine/entries.ts";
import { eventually, GROUP, HostCluster, records, type TestHost } from "../support/host-cluster.ts";
import { TestClock } from "../support/test-clock.ts";

const DUE_MS = Date.parse("2030-05-02T04:00:00Z");
const HOUR_MS = 3_600_000;
/** A file takes nine or ten of the batches here. */
const FILE_BYTES = 400 * 1024;
const BODY = Buffer.alloc(40 * 1024, "x");

function topic(config: Partial<ConfigRow>, configuredMs = 0): TopicRow {
  const row = { vhost: "/", name: "logs", partitions: [], replicas: 3, createdMs: 0, configuredMs, queue: null, works: [] };
  return { ...row, config: { ...CONFIG, ...config } };
}

/** What one host does about the group when it leads it, at a time that the test sets. */
class Keeper {
  readonly host: TestHost;
  readonly clock = new TestClock();
  readonly archiver: Archiver;
  /** There is room for archives. */
  hasRoom = true;
  private readonly retention: Retention;

  constructor(host: TestHost, nowMs: number) {
    this.host = host;
    this.clock.nowMs = nowMs;
    const files = new ArchiveFiles(
      { directory: this.directory, watermarkBytes: 0, clusterId: "test", nodeId: host.id },
      { disk: new NodeDisk(), clock: this.clock, crc32 },
    );
    const archive: Archive = { begin: async (place, first) => (this.hasRoom ? files.begin(place, first) : null) };
    const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock);
    const warn = (fields: object, event: string): void => void host.logged.push({ event, fields: fields as Record<string, unknown> });
    const logger = { error: warn, warn, info: warn, debug: warn, child: () => logger };
    this.archiver = new Archiver({
      host: host.host,
      archive,
      fileBytesMax: FILE_BYTES,
      pacer,
      clock: this.clock,
      logger,
      fatal: (error) => void host.logged.push({ event: "fatal", fields: { error } }),
    });
    this.retention = new Retention({ host: host.host, clock: this.clock, archiver: this.archiver });
  }

  get directory(): string {
    return join(this.host.directory, "archive");
  }

  look(row: TopicRow, groups = [GROUP]): void {
    this.retention.look(groups.map((group, partition) => ({ group, topic: row, partition })));
  }

  /** All that one look asks for is done. */
  async lookThrough(row: TopicRow, groups = [GROUP]): Promise<void> {
    this.look(row, groups);
    await eventually(() => this.archiver["working"] === null, "the archiver is through");
    // Proposals of one group are applied in order: what was proposed before this is.
    await this.host.propose(ENTRY_COMMAND, Buffer.from("nothing"));
  }

  /** Offsets of the archived batches, file by file. */
  async archived(): Promise<number[][]> {
    const folder = join(this.directory, "%2F", "logs", `0-g${GROUP}`);
    const names: string[] = await readdir(folder).catch(() => []);
    return Promise.all(
      names.sort().map(async (name) => {
        const parser = new ArchiveParser(crc32);
        const items = [...parser.push(await readFile(join(folder, name)))];
        parser.done();
        return items.flatMap((item) => (item.kind === "batch" ? [item.batch.baseOffset] : []));
      }),
    );
  }
}

async function led(size: number): Promise<{ cluster: HostCluster; keeper: Keeper }> {
  const cluster = await HostCluster.start(size);
  const leader = await cluster.leader();
  for (let batch = 0; batch < 10; batch++) await leader.publish(2, BODY);
  return { cluster, keeper: new Keeper(leader, DUE_MS - HOUR_MS) };
}

test("retention: with a schedule nothing is trimmed before it is due, and what was too old then once it is", async () => {
  const { cluster, keeper } = await led(1);
  await using _ = cluster;
  const { stream } = keeper.host;
  const row = topic({ retentionMs: 1, retentionSchedule: "0 4 * * *" }, keeper.clock.nowMs - 24 * HOUR_MS);
  await keeper.lookThrough(row);
  expect(stream.startOffset).toBe(0);
  keeper.clock.nowMs = DUE_MS + HOUR_MS;
  await keeper.lookThrough(row);
  expect(stream.startOffset).toBe(20);
});

test("retention: a bound of bytes trims once for each time that is due, not all day after it", async () => {
  const { cluster, keeper } = await led(1);
  await using _ = cluster;
  const { stream } = keeper.host;
  const row = topic({ retentionBytes: 4 * BODY.length, retentionSchedule: "0 4 * * *" });
  keeper.clock.nowMs = DUE_MS + 1;
  await keeper.lookThrough(row);
  const { startOffset } = stream;
  expect(startOffset).toBeGreaterThan(0);
  for (let batch = 0; batch < 10; batch++) await keeper.host.publish(2, BODY);
  for (let look = 0; look < 3; look++) await keeper.lookThrough(row);
  expect(stream.startOffset).toBe(startOffset);
  keeper.clock.nowMs = DUE_MS + 24 * HOUR_MS;
  await keeper.lookThrough(row);
  expect(stream.startOffset).toBeGreaterThan(startOffset);
});

test("retention: what was due before the schedule was set is left alone, by a clock that is ahead as well", async () => {
  const { cluster, keeper } = await led(1);
  await using _ = cluster;
  const { stream } = keeper.host;
  keeper.clock.nowMs = DUE_MS + HOUR_MS;
  const config = { retentionMs: 1, retentionSchedule: "0 4 * * *" };
  await keeper.lookThrough(topic(config, DUE_MS + 1));
  const ahead = topic(config, DUE_MS + 1_000 * HOUR_MS);
  await keeper.lookThrough(ahead);
  expect(stream.startOffset).toBe(0);
  keeper.clock.nowMs = DUE_MS + 24 * HOUR_MS;
  await keeper.lookThrough(ahead);
  expect(stream.startOffset).toBe(20);
});

test("retention: what goes is archived first; without room nothing goes, and that is said", async () => {
  const { cluster, keeper } = await led(1);
  await using _ = cluster;
  const { stream } = keeper.host;
  const row = topic({ retentionMs: 1, retentionPolicy: 2, retentionSchedule: "0 4 * * *" });
  keeper.clock.nowMs = DUE_MS + 1;
  keeper.hasRoom = false;
  await keeper.lookThrough(row);
  expect([stream.startOffset, keeper.archiver.counts.waiting]).toEqual([0, 1]);
  await keeper.lookThrough(row);
  expect(keeper.host.count("records cannot be archived, so they are not trimmed")).toBe(1);
  keeper.hasRoom = true;
  await keeper.lookThrough(row);
  expect(stream.startOffset).toBe(20);
  expect(await keeper.archived()).toEqual([[0, 2, 4, 6, 8, 10, 12, 14, 16, 18]]);
  await keeper.lookThrough(row);
  expect(keeper.archiver.counts).toMatchObject({ files: 1, waiting: 0 });
});

test("retention: much is archived in several files, and each of them trimmed", async () => {
  const { cluster, keeper } = await led(1);
  await using _ = cluster;
  for (let batch = 0; batch < 15; batch++) await keeper.host.publish(2, BODY);
  const trims: number[] = [];
  const propose = keeper.host.host.propose.bind(keeper.host.host);
  keeper.host.host.propose = (group, kind, payload, done) =>
    propose(group, kind, payload, (code, value, detail) => {
      if (code === 0) trims.push(value);
      done(code, value, detail);
    });
  keeper.clock.nowMs = DUE_MS + 1;
  await keeper.lookThrough(topic({ retentionMs: 1, retentionPolicy: 2, retentionSchedule: "0 4 * * *" }));
  const files = await keeper.archived();
  expect(files.flat()).toEqual(Array.from({ length: 25 }, (_none, at) => at * 2));
  expect(files.length).toBeGreaterThan(2);
  expect(trims).toEqual(files.map((offsets) => offsets.at(-1)! + 2));
});

test("retention: what is archived at any time waits until it is worth a file", async () => {
  const { cluster, keeper } = await led(1);
  await using _ = cluster;
  const row = topic({ retentionMs: 1, retentionPolicy: 2 });
  await keeper.lookThrough(row);
  expect(keeper.host.stream.startOffset).toBe(0);
  keeper.clock.advance(299_000);
  await keeper.lookThrough(row);
  expect(keeper.host.stream.startOffset).toBe(0);
  keeper.clock.advance(1_000);
  await keeper.lookThrough(row);
  expect(keeper.host.stream.startOffset).toBe(20);
});

test("retention: a partition that cannot be read keeps no other one waiting", async () => {
  await using cluster = await HostCluster.start(1, {}, 2);
  const host = await cluster.leader();
  const [unreadable, other] = [GROUP, (GROUP + 1) as GroupId];
  await eventually(() => host.host.get(other)!.isLeader, "the host leads both");
  for (const group of [unreadable, other]) expect((await host.propose(ENTRY_RECORDS, records(2, BODY), group)).code).toBe(0);
  host.replica.cache.clear();
  const log = host.host.logFor(unreadable);
  const read = log.read.bind(log);
  log.read = (group, first, last, bytesMax, done) =>
    group === unreadable ? done(new Error("not now"), []) : read(group, first, last, bytesMax, done);
  const keeper = new Keeper(host, DUE_MS + 1);
  const row = topic({ retentionMs: 1, retentionPolicy: 2, retentionSchedule: "0 4 * * *" });
  await keeper.lookThrough(row, [unreadable, other]);
  await host.propose(ENTRY_COMMAND, Buffer.from("nothing"), other);
  const starts = [unreadable, other].map((group) => (host.host.get(group)!.machine as StreamMachine).startOffset);
  expect(starts).toEqual([0, 2]);
  expect(keeper.archiver.counts).toMatchObject({ files: 1, waiting: 1 });
  log.read = read;
  await keeper.lookThrough(row, [unreadable, other]);
  expect([host.stream.startOffset, keeper.archiver.counts.waiting]).toEqual([2, 0]);
});

test("retention: a leader that comes when a file is made, before the trim, archives the same anew", async () => {
  const { cluster, keeper } = await led(3);
  await using _ = cluster;
  const { host } = keeper;
  const row = topic({ retentionMs: 1, retentionPolicy: 2, retentionSchedule: "0 4 * * *" });
  keeper.clock.nowMs = DUE_MS + 1;
  await cluster.settled();
  const heir = cluster.hosts.find((one) => one !== host)!;
  // Between the file and the trim the leader moves.
  const propose = host.host.propose.bind(host.host);
  const held: Promise<void>[] = [];
  host.host.propose = (group, kind, payload, done) => {
    const moved = async (): Promise<void> => {
      host.host.transferLeadership(GROUP, heir.id);
      await eventually(() => heir.replica.isLeader && !host.replica.isLeader, "the heir leads");
      propose(group, kind, payload, done);
    };
    held.push(moved());
  };
  keeper.look(row);
  await eventually(() => keeper.archiver["working"] === null, "the archiver is through");
  await Promise.all(held);
  expect(await keeper.archived()).toEqual([[0, 2, 4, 6, 8, 10, 12, 14, 16, 18]]);
  expect(heir.stream.startOffset).toBe(0);
  const next = new Keeper(heir, DUE_MS + 2 * HOUR_MS);
  await next.lookThrough(row);
  expect(heir.stream.startOffset).toBe(20);
  expect(await next.archived()).toEqual([[0, 2, 4, 6, 8, 10, 12, 14, 16, 18]]);
});
