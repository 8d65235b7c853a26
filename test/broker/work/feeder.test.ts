// The leader's part in feeding a backlog, step by step, over a machine that stands for the group.

import { expect, test } from "vitest";
import { BrokerError } from "../../../src/base/errors.ts";
import type { GroupId } from "../../../src/base/ids.ts";
import { FED_READY_MAX, FEED_RECORDS_MAX } from "../../../src/base/limits.ts";
import { silentLogger } from "../../../src/base/logger.ts";
import { ProtoWriter } from "../../../src/base/protobuf.ts";
import { Feeder, type FeederComponents } from "../../../src/broker/work/feeder.ts";
import type { RecordSlice } from "../../../src/broker/work/run-reader.ts";
import { factsOfStored } from "../../../src/broker/record-scan.ts";
import { encodeWork } from "../../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import { WORK_DEFAULTS } from "../../../src/machine/work/config.ts";
import type { Work } from "../../../src/machine/work/work.ts";
import { records } from "../../machine/entries.ts";
import { MachineRun } from "../../machine/machine-run.ts";
import { TestClock } from "../../support/test-clock.ts";

const GROUP = 5 as GroupId;
const DAY_MS = 86_400_000;

type Fields = { key?: string; priority?: number; dueMs?: number; delayMs?: number; ttlMs?: number };

/** An encoded RecordBatch. */
function batch(...all: Fields[]): Uint8Array {
  const writer = new ProtoWriter(1024);
  for (const { key, priority = 0, dueMs = 0, delayMs = 0, ttlMs = 0 } of all) {
    const mark = writer.open(1);
    if (key !== undefined) writer.string(1, key);
    writer.uint(8, priority).uint(9, dueMs).uint(10, delayMs).uint(11, ttlMs).close(mark);
  }
  return writer.finish();
}

/** A group led here; reads of its log are answered when the test says so. */
class Led {
  readonly run = new MachineRun(new StreamMachine());
  readonly clock = new TestClock();
  readonly reads: { from: number; end: number; answer: (result: RecordSlice[] | BrokerError) => void }[] = [];
  readonly feeder: Feeder;
  isLeader = true;
  code = 0;
  proposals = 0;

  constructor() {
    const replica = (): unknown => ({ isLeader: this.isLeader, descriptor: { kind: "stream" }, machine: this.run.machine });
    const components = {
      host: {
        get: replica,
        propose: (_group: GroupId, _kind: number, payload: Uint8Array, done: (code: number) => void) => {
          this.proposals += 1;
          if (this.code === 0) this.run.command(payload);
          done(this.code);
        },
      },
      reader: {
        read: (_group: GroupId, from: number, end: number) =>
          new Promise((resolve, reject) =>
            this.reads.push({ from, end, answer: (result) => (result instanceof BrokerError ? reject(result) : resolve(result)) }),
          ),
      },
      clock: this.clock,
      logger: silentLogger,
    };
    this.feeder = new Feeder(components as unknown as FeederComponents);
  }

  work(name: string): Work {
    return this.run.machine.works.get(name)!;
  }

  store(count: number): void {
    for (let left = count; left > 0; left -= 50_000) this.run.records(records(Math.min(left, 50_000), { isScanned: false }));
  }

  create(...names: string[]): void {
    this.run.command(encodeWork(names.map((name) => ({ op: "create", name, start: 0, config: WORK_DEFAULTS }))));
    this.feeder.look(GROUP);
  }

  /** Answers the read that waits for longest, with records that say nothing, and lets what follows happen. */
  async answer(result: RecordSlice[] | BrokerError | null = null): Promise<void> {
    const { from, end, answer } = this.reads.shift()!;
    answer(result ?? [{ from, end, timeMs: 0, records: new Uint8Array(0) }]);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("feeder: it goes on a step at a time until a subscription is up with its stream, each in its turn", async () => {
  const led = new Led();
  led.store(2 * FEED_RECORDS_MAX + 1);
  led.create("a", "b");
  led.feeder.look(GROUP);
  expect(led.reads).toMatchObject([{ from: 0, end: FEED_RECORDS_MAX }, { from: 0 }]);
  await led.answer();
  expect(led.reads.map(({ from }) => from)).toEqual([0, FEED_RECORDS_MAX]);
  while (led.reads.length > 0) await led.answer();
  for (const name of ["a", "b"]) expect(led.work(name).state.fedTo).toBe(2 * FEED_RECORDS_MAX + 1);
  expect(led.proposals).toBe(6);
});

test("feeder: of a huge backlog only so much is fed as is not taken, and goes on when that is", async () => {
  const led = new Led();
  led.store(3 * FED_READY_MAX);
  led.create("w");
  while (led.reads.length > 0) await led.answer();
  expect(led.work("w").counts.ready).toBe(FED_READY_MAX);
  const terms = { gateway: 1, priority: 0, leaseMs: 1_000, staysMs: 0 };
  led.run.command(encodeWork([{ op: "attach", name: "w", consumer: 1, terms, granted: 1 }]));
  led.feeder.look(GROUP);
  expect(led.reads).toMatchObject([{ from: FED_READY_MAX }]);
});

test("feeder: what could not be read or said is tried again after a while, from where the backlog begins then", async () => {
  const led = new Led();
  led.store(10);
  led.create("w");
  await led.answer(new BrokerError("OFFSET_OUT_OF_RANGE", "trimmed"));
  led.feeder.look(GROUP);
  expect(led.reads).toEqual([]);
  led.run.command(encodeWork([{ op: "seek", name: "w", offset: 4 }]));
  led.clock.advance(1_000);
  expect(led.reads).toMatchObject([{ from: 4, end: 10 }]);
  led.code = -2;
  await led.answer();
  led.code = 0;
  expect(led.reads).toEqual([]);
  led.clock.advance(1_000);
  await led.answer();
  expect(led.work("w").state.fedTo).toBe(10);
});

test("feeder: who does not lead the group any more feeds nothing, and what a seek made stale is read anew", async () => {
  const led = new Led();
  led.store(10);
  led.create("w");
  led.run.command(encodeWork([{ op: "seek", name: "w", offset: 7 }]));
  await led.answer();
  expect(led.work("w").state.fedTo).toBe(7);
  expect(led.reads).toMatchObject([{ from: 7, end: 10 }]);
  led.isLeader = false;
  led.run.command(encodeWork([{ op: "seek", name: "w", offset: 1 }]));
  await led.answer();
  expect(led.reads).toEqual([]);
});

const NOTHING = { priority: 0, dueMs: 0, delayMs: 0, ttlMs: 0, keyHash: 0 };

test("feeder: records that nobody checked when they were stored count as far as they can", () => {
  const year = 366 * DAY_MS;
  const wild = batch({ priority: 200 }, { dueMs: 9 * year }, { dueMs: 5, delayMs: 7 }, { delayMs: 9 * year, ttlMs: 9 * year });
  expect(factsOfStored(wild, 1_000)).toEqual([
    { ...NOTHING, count: 1, priority: 31 },
    { ...NOTHING, count: 1, dueMs: 1_000 + year },
    { ...NOTHING, count: 1, dueMs: 5 },
    { ...NOTHING, count: 1, delayMs: year, ttlMs: year },
  ]);
  // The middle one is no Record; the last field is cut off.
  const good = batch({ key: "k" });
  const { keyHash } = factsOfStored(good, 0)[0]!;
  const mixed = new Uint8Array([...good, 0x0a, 1, 0x08, ...good, 0x0a, 100]);
  expect(factsOfStored(mixed, 0)).toEqual([
    { ...NOTHING, count: 1, keyHash },
    { ...NOTHING, count: 1 },
    { ...NOTHING, count: 1, keyHash },
  ]);
});
