// What a consumer of a queue says to its node: credit and settlements, against a stream that the test answers itself.

import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import { BrokerError } from "../../src/base/errors.ts";
import { decodeConsumeFrame, encodeConsumeAnswer, type ConsumeAnswer, type ConsumeFrame } from "../../src/api/work-codec.ts";
import type { Channels } from "../../src/client/channels.ts";
import { QueueConsumer, type QueueConsumerOptions } from "../../src/client/queue-consumer.ts";
import { BatchEncoder, HEAD_ROOM_BYTES } from "../../src/client/records.ts";

const TOKEN = 7;

/** The node's side of a Consume stream. */
class FakeNode extends EventEmitter {
  readonly frames: ConsumeFrame[] = [];

  write(bytes: Buffer): boolean {
    this.frames.push(decodeConsumeFrame(bytes));
    return true;
  }

  cancel(): void {}
  end(): void {}

  say(answer: Partial<ConsumeAnswer>): void {
    this.emit("data", encodeConsumeAnswer({ deliveries: [], settled: [], opened: false, revoked: [], drained: -1, ...answer }));
  }

  /** Messages "0", "1", ... at offsets from `firstOffset` on. */
  deliver(firstOffset: number, count: number): void {
    const encoder = new BatchEncoder(Buffer.alloc(1024));
    for (let at = 0; at < count; at++) encoder.add({ body: String(at), priority: at });
    const records = encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + encoder.length);
    const lease = { token: TOKEN, deadlineMs: Date.now() + 30_000, deliveries: 1, consumer: 5 };
    this.say({ deliveries: [{ partition: 0, firstOffset, count, timeMs: 11, records, ...lease }] });
  }

  get credit(): number {
    return this.frames.reduce((sum, { credit }) => sum + (credit?.messages ?? 0), 0);
  }

  get settlements(): readonly (readonly [number, number])[] {
    return this.frames.flatMap(({ settlements }) => settlements.map(({ firstOffset, count }) => [firstOffset, count] as const));
  }
}

async function opened(options: QueueConsumerOptions): Promise<{ readonly node: FakeNode; readonly consumer: QueueConsumer }> {
  const node = new FakeNode();
  const topology = { nodes: [], partitions: [{ partition: 0, group: 1, leader: 1, term: 1, replicas: [1] }] };
  const watch = Object.assign(new EventEmitter(), { cancel: () => {} });
  const channels = {
    endpoints: () => ["127.0.0.1:1"],
    learn: () => {},
    isConnected: () => true,
    call: () => Promise.resolve({ topology }),
    readable: () => watch,
    duplex: () => {
      setImmediate(() => node.say({ opened: true }));
      return node;
    },
  };
  const consumer = await QueueConsumer.open(channels as unknown as Channels, "q", options, () => {});
  return { node, consumer };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

test("consumer: acknowledgements of one turn leave in one frame, as one range, with the room that they make", async () => {
  const { node, consumer } = await opened({ prefetch: 8 });
  await turn();
  expect(node.credit).toBe(8);
  node.deliver(20, 6);
  const before = node.frames.length;
  const seen: string[] = [];
  for await (const message of consumer) {
    seen.push(text(message));
    expect(message).toMatchObject({ partition: 0, offset: 20 + seen.length - 1, storedMs: 11, priority: seen.length - 1, attempt: 1 });
    void message.ack();
    if (seen.length === 6) break;
  }
  await turn();
  expect(seen).toEqual(["0", "1", "2", "3", "4", "5"]);
  expect(node.frames.length - before).toBe(1);
  expect(node.settlements).toEqual([[20, 6]]);
  expect(node.credit).toBe(14);
  expect(consumer.outstanding).toBe(6);
  node.say({ settled: [{ firstId: 1, settlements: 1, error: null, messages: 6, lost: [] }] });
  expect(consumer.outstanding).toBe(0);
});

test("consumer: a batch is all that came, and is acknowledged with one answer", async () => {
  const { node, consumer } = await opened({ prefetch: 16 });
  const waiting = consumer.nextBatch();
  node.deliver(0, 3);
  const batch = await waiting;
  expect(batch.map(text)).toEqual(["0", "1", "2"]);
  node.deliver(3, 5);
  expect(await consumer.nextBatch(4)).toHaveLength(4);
  const acked = consumer.ackAll(batch);
  await turn();
  node.say({ settled: [{ firstId: 1, settlements: 1, error: null, messages: 3, lost: [] }] });
  await acked;
  await consumer.ackAll([]);
  await expect(consumer.ackAll(batch)).rejects.toMatchObject({ code: "LEASE_LOST" });
  expect(consumer.outstanding).toBe(5);
});

test.each([0, -1, 1.5, Number.NaN])(
  "consumer: a batch of %s messages is refused, and not answered as if the consumer were closed",
  async (max) => {
    const { node, consumer } = await opened({ prefetch: 4 });
    await expect(consumer.nextBatch(max)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    node.deliver(0, 2);
    await expect(consumer.nextBatch(max)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await consumer.nextBatch(1)).toHaveLength(1);
  },
);

test("consumer: a batch of which a message is lost says so once the others are answered", async () => {
  const { node, consumer } = await opened({ prefetch: 16 });
  node.deliver(0, 2);
  node.deliver(5, 2);
  const batch = await consumer.nextBatch();
  const acked = consumer.ackAll(batch);
  const outcome = acked.then(
    () => "acked",
    (error: { code: string; message: string }) => `${error.code} ${error.message}`,
  );
  await turn();
  node.say({ settled: [{ firstId: 1, settlements: 1, error: new BrokerError("LEASE_LOST", "gone"), messages: 0, lost: [] }] });
  expect(await Promise.race([outcome, turn().then(() => "open")])).toBe("open");
  node.say({ settled: [{ firstId: 2, settlements: 1, error: null, messages: 2, lost: [] }] });
  expect(await outcome).toMatch(/^LEASE_LOST 2 of 4 messages are not acknowledged/);
});

test("consumer: of acknowledgements that left as one range each has its own outcome", async () => {
  const { node, consumer } = await opened({ prefetch: 16 });
  node.deliver(10, 6);
  const outcomes = (await consumer.nextBatch()).map((message) =>
    message.ack().then(
      () => "acked",
      (error: { code: string }) => error.code,
    ),
  );
  await turn();
  expect(node.settlements).toEqual([[10, 6]]);
  const lost = [
    { from: 10, end: 11 },
    { from: 13, end: 15 },
  ];
  node.say({ settled: [{ firstId: 1, settlements: 1, error: new BrokerError("LEASE_LOST", "gone"), messages: 3, lost }] });
  expect(await Promise.all(outcomes)).toEqual(["LEASE_LOST", "acked", "acked", "LEASE_LOST", "LEASE_LOST", "acked"]);
  expect(consumer.outstanding).toBe(0);
});

test("consumer: each message makes room once, also one that was taken back before it was acknowledged", async () => {
  const { node, consumer } = await opened({ prefetch: 4 });
  await turn();
  node.deliver(0, 4);
  const [first, ...rest] = await consumer.nextBatch();
  node.say({ revoked: [{ partition: 0, firstOffset: 0, count: 1 }] });
  await turn();
  expect(node.credit).toBe(5);
  void first!.ack().catch(() => {});
  for (const message of rest) void message.ack().catch(() => {});
  await turn();
  expect(node.credit).toBe(8);
});

test("consumer: of a stream that was lost nothing can be said, and its place is taken by another one", async () => {
  const { node, consumer } = await opened({ prefetch: 4 });
  node.deliver(0, 2);
  const [message] = await consumer.nextBatch();
  node.emit("end");
  await expect(message!.ack()).rejects.toMatchObject({ code: "LEASE_LOST" });
  expect(consumer.outstanding).toBe(0);
  await expect.poll(() => node.frames.filter(({ open }) => open !== null).length).toBe(2);
});
