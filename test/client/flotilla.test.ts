import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import { expect, test } from "vitest";
import { decodeBatch, Flotilla } from "../../src/client/index.ts";
import { MemoryCluster } from "../support/memory-cluster.ts";

/** A port that nobody listens on. */
async function deadPort(): Promise<string> {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as { port: number };
  await once(server.close(), "close");
  return `127.0.0.1:${port}`;
}

test("connect: the first endpoint that answers is taken", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: [await deadPort(), cluster.endpoints[0]!] });
  expect((await client.cluster.resolve("t")).partitions).toHaveLength(1);
});

test("connect: nodes that take a connection and never speak are passed by", async () => {
  const sockets: Socket[] = [];
  const mute = createServer((socket) => void sockets.push(socket));
  await once(mute.listen(0, "127.0.0.1"), "listening");
  using cluster = await MemoryCluster.start(1);
  const { port } = mute.address() as { port: number };
  await using client = await Flotilla.connect({ endpoints: [`127.0.0.1:${port}`, cluster.endpoints[0]!] });
  expect((await client.cluster.describe()).nodeId).toBe(1);
  mute.close();
  for (const socket of sockets) socket.destroy();
});

test("connect: no node at all is a typed error that names the addresses", async () => {
  const endpoint = await deadPort();
  await expect(Flotilla.connect({ endpoints: [endpoint] })).rejects.toMatchObject({
    code: "UNREACHABLE",
    retryable: true,
    message: expect.stringContaining(endpoint),
  });
  await expect(Flotilla.connect({ endpoints: [] })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("client: other nodes are learned, and take over when the first dies", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  cluster.stopNode(1);
  expect((await client.cluster.describe()).nodeId).toBe(2);
});

test("client: a node that lets a call time out is not the first to be asked the next time", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints, deadlineMs: 300 });
  cluster.freezeNode(1);
  await expect(client.publish("t", [{ body: "a" }])).rejects.toMatchObject({ code: "TIMEOUT", maybeApplied: true });
  expect(await client.publish("t", [{ body: "b" }])).toMatchObject({ offset: 0 });
});

test("client: publish and fetch without a producer or consumer", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  expect(await client.publish("t", [{ body: "a", key: "k" }, { body: "b" }])).toEqual({ partition: 0, offset: 0, count: 2 });
  expect(await client.publish("t", [{ body: "c" }], { partition: 0 })).toEqual({ partition: 0, offset: 2, count: 1 });
  expect(partition!.bodies()).toEqual(["a", "b", "c"]);
  const [part] = await client.fetch("t", [{ partition: 0, from: "earliest" }]);
  const records = part!.batches.flatMap(({ bytes, ...place }) => decodeBatch(bytes, place));
  expect(records.map(({ offset, body }) => [offset, Buffer.from(body).toString()])).toEqual([
    [0, "a"],
    [1, "b"],
    [2, "c"],
  ]);
});

test("client: a publish whose outcome is unknown is not sent again behind the caller's back", async () => {
  using cluster = await MemoryCluster.start(2);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  cluster.script = () => "store, then drop";
  await expect(client.publish("t", [{ body: "once" }])).rejects.toMatchObject({ code: "UNREACHABLE", maybeApplied: true });
  expect(partition!.bodies()).toEqual(["once"]);
  cluster.script = () => ({ error: "OVERLOADED" });
  await expect(client.publish("t", [{ body: "never" }])).rejects.toMatchObject({
    code: "OVERLOADED",
    retryable: true,
    maybeApplied: false,
  });
});

test("client: watch tells the topology now and after every change, until it is aborted", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 2);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const abort = new AbortController();
  const leaders: number[][] = [];
  for await (const { partitions } of client.cluster.watch("t", "", { signal: abort.signal })) {
    const seen = partitions.map(({ leader }) => leader);
    if (leaders.at(-1)?.join() === seen.join()) continue;
    leaders.push(seen);
    if (leaders.length === 1) cluster.moveLeader("t", 1, 2);
    else if (leaders.length === 2) {
      // The watch goes on with the other node.
      cluster.stopNode(1);
      cluster.moveLeader("t", 0, 2);
    } else abort.abort();
  }
  expect(leaders).toEqual([
    [1, 1],
    [1, 2],
    [2, 2],
  ]);
});

test("client: close ends what is open, and may be called again", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  const client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { lingerMs: 60_000 });
  const consumer = await client.consumer("t", { from: "earliest" });
  producer.append({ body: "waiting" });
  await client.close();
  expect(partition!.bodies()).toEqual(["waiting"]);
  expect(await consumer[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined });
  await client.close();
  await expect(client.cluster.describe()).rejects.toMatchObject({ code: "CLOSED" });
});
