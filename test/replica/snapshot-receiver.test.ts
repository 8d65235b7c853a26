// What a node takes in of a snapshot: every piece checked, the whole checked, bounded in bytes and in time.

import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { ByteReader } from "../../src/base/bytes.ts";
import type { GroupId, NodeId } from "../../src/base/ids.ts";
import { SNAPSHOTS_RECEIVING_BYTES_MAX } from "../../src/base/limits.ts";
import { Pins } from "../../src/replica/pins.ts";
import {
  ANSWER_AGAIN,
  ANSWER_DONE,
  ANSWER_GO,
  ANSWER_REFUSED,
  decodeAnswer,
  decodeChunk,
  encodeCheckpoint,
  encodeChunk,
  type Chunk,
} from "../../src/replica/snapshot-codec.ts";
import { SnapshotReceiver } from "../../src/replica/snapshot-receiver.ts";
import type { Checkpoint } from "../../src/replica/types.ts";
import { TestClock } from "../support/test-clock.ts";

const FROM = 2 as NodeId;
const checkpoint: Checkpoint = {
  index: 7,
  term: 3,
  configuration: { voters: [1, 2, 3], votersOutgoing: [], learners: [4], learnersNext: [], autoLeave: false },
  machineVersion: 1,
  digest: { origin: 1, a: 0xffff_ffff, b: 2 },
  timeMs: 5,
  snapshot: Buffer.alloc(1_000, "s"),
};
const body = encodeCheckpoint(checkpoint, true);

function chunkOf(offset: number, length: number, changes: Partial<Chunk> = {}): Chunk {
  const bytes = body.subarray(offset, offset + length);
  const identity = { group: 9 as GroupId, from: 2, to: 1, term: 3, attempt: 1, index: 7, total: body.length, crc: crc32(body) };
  return { ...identity, offset, chunkCrc: crc32(bytes), bytes, ...changes };
}

type Received = { chunk: Chunk; checkpoint: Checkpoint; saved: () => void };

class Bench {
  readonly clock = new TestClock();
  readonly received: Received[] = [];
  judgement: "wanted" | "had" | "refused" = "wanted";
  private answers: (readonly [verdict: number, filled: number, attempt: number])[] = [];
  private readonly receiver = new SnapshotReceiver({
    clock: this.clock,
    logger: { error: () => {}, warn: () => {}, info: () => {}, debug: () => {}, child: () => ({}) as never },
    crc32,
    transmit: (_node, parts) => {
      const { verdict, filled, attempt } = decodeAnswer(new ByteReader(Buffer.concat(parts).subarray(1)));
      this.answers.push([verdict, filled, attempt]);
      return true;
    },
    judge: () => this.judgement,
    received: (chunk, whole, saved) => this.received.push({ chunk, checkpoint: whole, saved }),
  });

  /** Over the wire format; the answers since the last call. */
  send(chunk: Chunk): readonly (readonly [verdict: number, filled: number, attempt: number])[] {
    this.receiver.onChunk(FROM, decodeChunk(new ByteReader(Buffer.concat(encodeChunk(chunk)).subarray(1))));
    return this.takeAnswers();
  }

  takeAnswers(): readonly (readonly [verdict: number, filled: number, attempt: number])[] {
    const { answers } = this;
    this.answers = [];
    return answers;
  }

  tick(): void {
    this.receiver.tick();
  }
}

test("snapshot receiver: piece by piece, answered as done once it is durable, in the name of the newest attempt", () => {
  const bench = new Bench();
  expect(bench.send(chunkOf(0, 0))).toEqual([[ANSWER_GO, 0, 1]]);
  expect(bench.send(chunkOf(0, 400))).toEqual([[ANSWER_GO, 400, 1]]);
  expect(bench.send(chunkOf(0, 0, { attempt: 2 }))).toEqual([[ANSWER_GO, 400, 2]]);
  expect(bench.send(chunkOf(400, body.length, { attempt: 2 }))).toEqual([]);
  expect(bench.send(chunkOf(0, 0, { attempt: 3 }))).toEqual([]);
  expect(bench.received).toHaveLength(1);
  expect(bench.received[0]!.checkpoint).toEqual({ ...checkpoint, snapshot: new Uint8Array(checkpoint.snapshot) });
  bench.received[0]!.saved();
  expect(bench.takeAnswers()).toEqual([[ANSWER_DONE, body.length, 3]]);
});

test("snapshot receiver: a damaged piece, a gap, and a whole that is not what was announced are asked for again", () => {
  const bench = new Bench();
  bench.send(chunkOf(0, 0));
  expect(bench.send(chunkOf(0, 400, { chunkCrc: 1 }))).toEqual([[ANSWER_AGAIN, 0, 1]]);
  expect(bench.send(chunkOf(400, 400))).toEqual([[ANSWER_AGAIN, 0, 1]]);
  expect(bench.send(chunkOf(0, 400))).toEqual([[ANSWER_GO, 400, 1]]);
  const wrong = { crc: crc32(body) ^ 1 };
  bench.send(chunkOf(0, 0, wrong));
  expect(bench.send(chunkOf(0, body.length, wrong))).toEqual([[ANSWER_AGAIN, 0, 1]]);
  expect(bench.received).toEqual([]);
});

test("snapshot receiver: a piece nobody asked about is not kept; what is no use is said to be", () => {
  const bench = new Bench();
  expect(bench.send(chunkOf(0, 400))).toEqual([[ANSWER_AGAIN, 0, 1]]);
  bench.judgement = "had";
  expect(bench.send(chunkOf(0, 0))).toEqual([[ANSWER_DONE, 0, 1]]);
  bench.judgement = "refused";
  expect(bench.send(chunkOf(0, 0))).toEqual([[ANSWER_REFUSED, 0, 1]]);
});

test("snapshot receiver: no more is taken in than the bound, and what nobody goes on with is dropped", () => {
  const bench = new Bench();
  const half = SNAPSHOTS_RECEIVING_BYTES_MAX / 2;
  for (const group of [1, 2]) expect(bench.send(chunkOf(0, 0, { group: group as GroupId, total: half }))).toEqual([[ANSWER_GO, 0, 1]]);
  const third = chunkOf(0, 0, { group: 3 as GroupId });
  expect(bench.send(third)).toEqual([[ANSWER_REFUSED, 0, 1]]);
  bench.clock.advance(50_000);
  expect(bench.send(chunkOf(0, 0, { group: 1 as GroupId, total: half }))).toEqual([[ANSWER_GO, 0, 1]]);
  bench.clock.advance(20_000);
  bench.tick();
  expect(bench.send(third)).toEqual([[ANSWER_GO, 0, 1]]);
});

test("pins: the log stays for who gets a snapshot, while it makes progress", () => {
  const pins = new Pins();
  const nothing = (): number => 0;
  pins.hold(2, 100);
  expect(pins.limit(1_000_000, nothing)).toBe(100);
  // What it is known to have it does not need.
  expect(pins.limit(1_000_000, () => 150)).toBe(150);
  pins.release(2, 1_000_000);
  expect(pins.limit(1_060_000, nothing)).toBe(100);
  pins.extend(2, 1_050_000);
  expect(pins.limit(1_100_000, nothing)).toBe(100);
  expect(pins.limit(1_111_000, nothing)).toBe(Number.POSITIVE_INFINITY);
  expect(pins.size).toBe(0);
  // One that is tried again and again without success holds the log no longer than one try.
  pins.hold(3, 200);
  pins.release(3, 0);
  pins.hold(3, 200);
  pins.release(3, 50_000);
  expect(pins.limit(70_000, nothing)).toBe(Number.POSITIVE_INFINITY);
  pins.hold(3, 300);
  pins.drop(3);
  expect(pins.size).toBe(0);
});
