// The API's end: calls under way are finished, streams end, and nobody is kept waiting for those that say nothing.

import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { GrpcApi } from "../../src/api/grpc-server.ts";
import { Pacer } from "../../src/base/pacer.ts";
import { ProtoWriter } from "../../src/base/protobuf.ts";
import type { Broker, PublishDone } from "../../src/broker/types.ts";
import { encodeBatch, encodeOpen, toBuffer } from "../../src/client/wire.ts";
import { systemClock } from "../../src/server/system-clock.ts";

const logger = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {}, child: () => logger };
const identity = (bytes: Buffer): Buffer => bytes;

test("api: a node that stops takes and answers batches until the clients have gone elsewhere, then ends their streams", async () => {
  const broker = {
    ready: true,
    watch: () => () => {},
    publish: (_call: unknown, done: PublishDone) => done(null, 0, 7, 1, false),
  } as unknown as Broker;
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock);
  const api = new GrpcApi({ host: "127.0.0.1", port: 0 }, { broker, logger, pacer, worked: () => {} });
  await api.start();
  const client = new Client(`127.0.0.1:${api.port}`, credentials.createInsecure());
  const stream = client.makeBidiStreamRequest("/flotilla.v1.Messaging/PublishStream", identity, identity, {});
  const ended = new Promise((resolve) => stream.on("end", () => resolve("ended")).on("error", resolve));
  let answers = 0;
  let answered = (): void => {};
  stream.on("data", () => {
    answers += 1;
    answered();
  });
  const open = new ProtoWriter(64);
  encodeOpen(open, { vhost: "", topic: "t", producerId: 0, epoch: 0 });
  stream.write(toBuffer(open));
  const send = async (id: number): Promise<void> => {
    const frame = new ProtoWriter(64);
    encodeBatch(frame, id, { partition: 0, sequence: 0, count: 1, records: Buffer.from([0x0a, 0]) });
    const answer = new Promise<void>((resolve) => (answered = resolve));
    stream.write(toBuffer(frame));
    await Promise.race([answer, ended]);
  };
  await send(1);
  const disposed = api[Symbol.asyncDispose]();
  // Each is answered before the next one is sent, so none comes later than another by more than that takes.
  for (let id = 2; id <= 50; id++) await send(id);
  expect(answers).toBe(50);
  expect(await ended).toBe("ended");
  await disposed;
  client.close();
});

test("api: a call under way when the node stops is finished, and an idle stream does not hold it up", async () => {
  let publish: (done: PublishDone) => void = () => {};
  const published = new Promise<PublishDone>((resolve) => (publish = resolve));
  const broker = { ready: true, watch: () => () => {}, publish: (_call: unknown, done: PublishDone) => publish(done) } as unknown as Broker;
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock);
  const api = new GrpcApi({ host: "127.0.0.1", port: 0 }, { broker, logger, pacer, worked: () => {} });
  await api.start();
  const client = new Client(`127.0.0.1:${api.port}`, credentials.createInsecure());
  const stream = client.makeBidiStreamRequest("/flotilla.v1.Messaging/PublishStream", identity, identity, {});
  const streamEnded = new Promise((resolve) =>
    stream
      .on("end", resolve)
      .on("error", resolve)
      .on("data", () => {}),
  );
  const request = new ProtoWriter(64)
    .string(2, "t")
    .blockAlways(4, new Uint8Array([0x0a, 0]))
    .uint(5, 1);
  const answer = new Promise<ServiceError | null>((resolve) => {
    client.makeUnaryRequest("/flotilla.v1.Messaging/Publish", identity, identity, toBuffer(request), {}, (error) => resolve(error));
  });
  const done = await published;
  const began = performance.now();
  const disposed = api[Symbol.asyncDispose]();
  // Nothing more is said on the stream, so it ends by itself.
  expect(await streamEnded).toBeUndefined();
  done(null, 0, 7, 1, false);
  expect(await answer).toBeNull();
  await disposed;
  expect(performance.now() - began).toBeLessThan(1_500);
  client.close();
});
