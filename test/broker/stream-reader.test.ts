// Offsets to entries, over a real log that lost its cache: searches by time, and reads that a trim overtakes.

import { expect, test } from "vitest";
import { FETCH_BATCHES_MAX, FETCH_BATCH_OVERHEAD_BYTES } from "../../src/base/limits.ts";
import { Pacer } from "../../src/base/pacer.ts";
import { StreamReader } from "../../src/broker/stream-reader.ts";
import { encodeTrim } from "../../src/machine/stream/commands.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { GROUP, HostCluster, type TestHost } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(40 * 1024, "x");
const NO_CHECKPOINTS = { tailCacheBytesMax: 1 };

async function publish(host: TestHost, entries: number, count = 2): Promise<void> {
  for (let left = entries; left > 0; left--) expect((await host.publish(count, BODY)).code).toBe(0);
}

test("time is the log's own: a leader whose clock went back does not hide records", async () => {
  await using cluster = await HostCluster.start(1, NO_CHECKPOINTS);
  const host = await cluster.leader();
  const reader = new StreamReader(host.host, new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock));
  const start = Date.now();
  await publish(host, 3);
  host.wallOffsetMs = 60_000;
  await publish(host, 1); // Offset 6, a minute ahead.
  host.wallOffsetMs = -60_000;
  await publish(host, 20); // Offsets 8 to 47: as new as offset 6.
  host.wallOffsetMs = 120_000;
  await publish(host, 1); // Offset 48.

  host.replica.cache.clear();
  expect(await reader.offsetOfTime(host.replica, 0)).toBe(0);
  expect(await reader.offsetOfTime(host.replica, start + 30_000)).toBe(6);
  expect(await reader.offsetOfTime(host.replica, start + 90_000)).toBe(48);
  expect(await reader.offsetOfTime(host.replica, start + 600_000)).toBe(50);
  // What went before the records of the minute ahead is gone: the first ones held were stored at or after that time.
  await host.command(encodeTrim(20));
  const { startOffset } = host.stream;
  expect(startOffset).toBeGreaterThan(8);
  expect(await reader.offsetOfTime(host.replica, start + 30_000)).toBe(startOffset);
});

test("a read that a trim overtakes while it waits for the disk answers with right offsets or none", async () => {
  await using cluster = await HostCluster.start(1, NO_CHECKPOINTS);
  const host = await cluster.leader();
  const reader = new StreamReader(host.host, new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock));
  // Every second entry is void: a command in the clothes of records.
  for (let left = 20; left > 0; left--) {
    await publish(host, 1);
    expect((await host.propose(1, Buffer.from("not a batch"))).code).not.toBe(0);
  }
  const { endOffset } = host.stream;
  expect(endOffset).toBe(40);

  /** Reads with the trim carried out after the read was asked for and before it is answered. */
  const readAcross = async (offset: number, trimTo: number): Promise<number[]> => {
    host.replica.cache.clear();
    const log = host.host.logFor(GROUP);
    const read = log.read.bind(log);
    let isHeld = true;
    log.read = (group, first, last, bytesMax, done): void => {
      read(group, first, last, bytesMax, (error, entries) => {
        if (!isHeld) return done(error, entries);
        isHeld = false;
        void host.command(encodeTrim(trimTo)).then(() => done(error, entries));
      });
    };
    try {
      return (await reader.read(host.replica, offset, endOffset, 1 << 20)).map(({ baseOffset }) => baseOffset);
    } finally {
      log.read = read;
    }
  };
  const everyEven = (from: number): number[] => Array.from({ length: (40 - from) / 2 }, (_, at) => from + 2 * at);
  expect(await readAcross(4, 10)).toEqual([]);
  // The offset itself is still held; its way there was not.
  const startOffset = host.stream.startOffset;
  expect(await readAcross(startOffset + 8, startOffset + 6)).toEqual(everyEven(startOffset + 8));
});

test("tiny batches: an answer is bounded in their number, and in bytes with what frames them", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  const reader = new StreamReader(host.host, new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock));
  const tiny = new Uint8Array(2);
  const count = FETCH_BATCHES_MAX + 500;
  await Promise.all(Array.from({ length: count }, () => host.publish(1, tiny)));
  for (const isCached of [true, false]) {
    if (!isCached) host.replica.cache.clear();
    const whole = await reader.read(host.replica, 0, count, 4 * 1024 * 1024);
    expect(whole).toHaveLength(FETCH_BATCHES_MAX);
    const rest = await reader.read(host.replica, FETCH_BATCHES_MAX, count, 4 * 1024 * 1024);
    expect(rest.map(({ baseOffset }) => baseOffset)).toEqual(Array.from({ length: 500 }, (_, at) => FETCH_BATCHES_MAX + at));
    const small = await reader.read(host.replica, 0, count, 10 * (FETCH_BATCH_OVERHEAD_BYTES + tiny.length));
    expect(small).toHaveLength(10);
  }
});
