// The proxy between two nodes, with real sockets on both of its sides.

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LinkProxy, openFlow, type FlowCounts } from "../../../bench/chaos/link-proxy.ts";

let server: Server;
let accepted: Socket[];
let proxy: LinkProxy;
let port: number;
let counts: FlowCounts;
const flows = { forth: openFlow(), back: openFlow() };

beforeEach(async () => {
  accepted = [];
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    accepted.push(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  Object.assign(flows.forth, openFlow());
  Object.assign(flows.back, openFlow());
  counts = { heldBytes: 0, slowedBytes: 0, cutConnections: 0 };
  proxy = new LinkProxy((server.address() as { port: number }).port, flows, counts);
  port = await proxy.listen();
});
afterEach(async () => {
  await proxy.close();
  for (const socket of accepted) socket.destroy();
  server.close();
});

/** Both ends of a connection through the proxy. */
async function pair(): Promise<[near: Socket, far: Socket]> {
  const near = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  near.on("error", () => {});
  const coming = once(server, "connection");
  await once(near, "connect");
  await coming;
  return [near, accepted.at(-1)!];
}

/** Resolves when it is closed, for whatever reason. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

/** Resolves when so many bytes have come. */
async function received(socket: Socket, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  while (length < count) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks);
}

test("link: bytes pass both ways, and so do an end and a cut", async () => {
  const [near, far] = await pair();
  near.write("there");
  expect((await received(far, 5)).toString()).toBe("there");
  far.write("and back");
  expect((await received(near, 8)).toString()).toBe("and back");
  near.end();
  await once(far, "end");
  far.write("more");
  expect((await received(near, 4)).toString()).toBe("more");
  const gone = closed(near);
  far.resetAndDestroy();
  await gone;
});

test("link: what is held one way comes when it is released, and the other way passes meanwhile", async () => {
  const [near, far] = await pair();
  flows.forth.isHeld = true;
  const came = received(far, 4);
  near.write("held");
  far.write("passes");
  expect((await received(near, 6)).toString()).toBe("passes");
  while (counts.heldBytes < 4) await new Promise((resolve) => setImmediate(resolve));
  expect(far.bytesRead).toBe(0);
  flows.forth.isHeld = false;
  proxy.changed();
  expect((await came).toString()).toBe("held");
});

test("link: nobody hears of a death that is held back until it is released", async () => {
  const [near, far] = await pair();
  near.write("x");
  await received(far, 1);
  flows.back.isHeld = true;
  far.resetAndDestroy();
  let isGone = false;
  near.on("close", () => (isGone = true));
  // Long enough for the proxy to have seen it: another connection made meanwhile goes through.
  flows.back.isHeld = true;
  await pair();
  await pair();
  expect(isGone).toBe(false);
  const gone = closed(near);
  flows.back.isHeld = false;
  proxy.changed();
  await gone;
});

test("link: a direction that is held takes no more than its share", async () => {
  const [near] = await pair();
  flows.forth.isHeld = true;
  const chunk = Buffer.alloc(64 * 1024);
  let isBlocked = false;
  for (let count = 0; count < 1_000 && !isBlocked; count++) {
    near.write(chunk);
    await new Promise((resolve) => setImmediate(resolve));
    isBlocked = near.writableLength > 4 * 1024 * 1024;
  }
  expect(isBlocked).toBe(true);
  expect(counts.heldBytes).toBeLessThan(1024 * 1024);
});

test("link: delay and bandwidth", async () => {
  const [near, far] = await pair();
  Object.assign(flows.forth, { delayMs: 60 });
  let began = performance.now();
  near.write("late");
  await received(far, 4);
  expect(performance.now() - began).toBeGreaterThanOrEqual(58);
  Object.assign(flows.forth, { delayMs: 0, bytesPerSecond: 100_000 });
  began = performance.now();
  near.write(Buffer.alloc(10_000));
  await received(far, 10_000);
  near.write(Buffer.alloc(10_000));
  await received(far, 10_000);
  expect(performance.now() - began).toBeGreaterThanOrEqual(90);
  expect(counts.slowedBytes).toBe(20_004);
});

test("link: a reset cuts what there is, and new connections are as good as ever", async () => {
  const [near] = await pair();
  const gone = closed(near);
  expect(proxy.reset()).toBe(1);
  await gone;
  const [again, far] = await pair();
  again.write("again");
  expect((await received(far, 5)).toString()).toBe("again");
  expect(counts.cutConnections).toBe(1);
});

test("link: who dials a node that is down is cut off", async () => {
  server.close();
  for (const socket of accepted) socket.destroy();
  const near = connect({ port, host: "127.0.0.1" });
  near.on("error", () => {});
  await closed(near);
});
