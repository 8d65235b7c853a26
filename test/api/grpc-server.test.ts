// The API's end: calls under way are finished, streams end, and nobody is kept waiting for those that say nothing.

import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { GrpcApi } from "../../src/api/grpc-server.ts";
import { Pacer } from "../../src/base/pacer.ts";
import { ProtoWriter } from "../../src/base/protobuf.ts";
import type { Broker, PublishDone } from "../../src/broker/types.ts";
import { toBuffer } from "../../src/client/wire.ts";
import { systemClock } from "../../src/server/system-clock.ts";

const logger = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {}, child: () => logger };
const identity = (bytes: Buffer): Buffer => bytes;

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
