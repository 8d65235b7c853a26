// What a publisher says of records to the work subscriptions that its node knows of.

import { expect, test } from "vitest";
import { PayloadMemory } from "../../src/base/payload-memory.ts";
import { ProtoWriter } from "../../src/base/protobuf.ts";
import { Publisher, type PublisherComponents } from "../../src/broker/publisher.ts";
import { readRecordsHeader, recordsBody, type RecordsHeader } from "../../src/machine/stream/records-codec.ts";
import { TestClock } from "../support/test-clock.ts";

function batch(priority: number): Uint8Array {
  const writer = new ProtoWriter(64);
  const mark = writer.open(1);
  writer.uint(8, priority).close(mark);
  return writer.finish();
}

function published(works: readonly unknown[], priority: number): RecordsHeader {
  const payloads: Uint8Array[] = [];
  const topic = { vhost: "/", name: "t", queue: null, works, partitions: [{ group: 5 }] };
  const publisher = new Publisher({
    router: { propose: (_group: unknown, _kind: unknown, payload: Uint8Array) => payloads.push(payload) },
    memory: new PayloadMemory(1024, 4096),
    clock: new TestClock(),
    topicOf: () => topic,
  } as unknown as PublisherComponents);
  const call = { vhost: "/", topic: "t", exchange: null, routingKey: "", partition: 0, partitionKey: null, direct: false };
  const records = batch(priority);
  publisher.publish({ ...call, records, count: 1, producerId: 0, producerEpoch: 0, sequence: 0 }, () => {});
  expect(recordsBody(payloads[0]!)).toEqual(records);
  return readRecordsHeader(payloads[0]!)!;
}

test("publisher: it says that it looked what is to be known of records, whether there is anything or not; and nothing where nobody asks", () => {
  expect(published([{ name: "w" }], 0)).toMatchObject({ isScanned: true, sidecarBytes: 0 });
  expect(published([{ name: "w" }], 3)).toMatchObject({ isScanned: true, sidecarBytes: 3 });
  expect(published([], 3)).toMatchObject({ isScanned: false, sidecarBytes: 0 });
});
