// Offsets to entries, over a real log that lost its cache: searches by time, and reads that a trim overtakes.

import { expect, test } from "vitest";
import { StreamReader } from "../../src/broker/stream-reader.ts";
import { encodeTrim } from "../../src/machine/stream/commands.ts";
import { GROUP, HostCluster, type TestHost } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(40 * 1024, "x");
const NO_CHECKPOINTS = { tailCacheBytesMax: 1 };

async function publish(host: TestHost, entries: number, count = 2): Promise<void> {
  for (let left = entries; left > 0; left--) expect((await host.publish(count, BODY)).code).toBe(0);
}

test("time is the log's own: a leader whose clock went back does not hide records", async () => {
  await using cluster = await HostCluster.start(1, NO_CHECKPOINTS);
  const host = await cluster.leader();
  const reader = new StreamReader(host.host);
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
  const reader = new StreamReader(host.host);
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
