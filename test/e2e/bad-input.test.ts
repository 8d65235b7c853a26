// What a user or a neighbour can get wrong: a clear error each time, the process lives, or refuses to start with a reason.

import { connect } from "node:net";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla, type FlotillaError } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { flotilla, runProgram } from "../support/run.ts";

let cluster: TestCluster;
let client: Flotilla;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: "events", partitions: 2 });
  await client.publish("events", [{ body: "one" }, { body: "two" }], { partition: 0 });
});
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "no error",
    (error: unknown) => (error as FlotillaError).code,
  );

const cases: readonly { name: string; run: () => Promise<unknown>; code: string }[] = [
  { name: "unknown topic", run: () => client.publish("nothing", [{ body: "x" }]), code: "UNKNOWN_TOPIC" },
  { name: "unknown partition", run: () => client.publish("events", [{ body: "x" }], { partition: 7 }), code: "UNKNOWN_PARTITION" },
  { name: "an empty batch", run: () => client.publish("events", []), code: "MALFORMED_BATCH" },
  { name: "an invalid name", run: () => client.admin.createTopic({ name: "a/../b" }), code: "INVALID_NAME" },
  { name: "an empty name", run: () => client.admin.createTopic({ name: "" }), code: "INVALID_NAME" },
  { name: "a name that is too long", run: () => client.admin.createTopic({ name: "n".repeat(201) }), code: "INVALID_NAME" },
  {
    name: "the same topic with other settings",
    run: () => client.admin.createTopic({ name: "events", partitions: 5 }),
    code: "TOPIC_EXISTS",
  },
  { name: "more replicas than nodes", run: () => client.admin.createTopic({ name: "wide", replicas: 5 }), code: "NOT_ENOUGH_NODES" },
  { name: "too many partitions", run: () => client.admin.createTopic({ name: "huge", partitions: 100_000 }), code: "INVALID_ARGUMENT" },
  { name: "fewer partitions", run: () => client.admin.expandTopic("events", 1), code: "FEWER_PARTITIONS" },
  { name: "a negative retention", run: () => client.admin.updateTopic("events", { retentionMs: -1 }), code: "INVALID_ARGUMENT" },
  { name: "deleting what is not there", run: () => client.admin.deleteTopic("nothing"), code: "UNKNOWN_TOPIC" },
  {
    name: "committing past the end",
    run: () =>
      client.commitOffsets("events", "s", [{ partition: 0, offset: 99 }]).then(([row]) => Promise.reject({ code: row!.error.reason })),
    code: "OFFSET_OUT_OF_RANGE",
  },
  {
    name: "deleting an unknown subscription",
    run: () => client.admin.deleteSubscription("events", "nobody"),
    code: "UNKNOWN_SUBSCRIPTION",
  },
  { name: "an oversized batch", run: () => client.publish("events", [{ body: Buffer.alloc(4_200_000) }]), code: "BATCH_TOO_LARGE" },
];
test.each(cases)("bad input: $name is $code", async ({ run, code }) => {
  expect(await codeOf(run())).toBe(code);
});

test("bad input: an offset past the end says where the end is", async () => {
  const [part] = await client.fetch("events", [{ partition: 0, from: { offset: 1_000 } }]);
  expect(part!.error).toMatchObject({ code: "OFFSET_OUT_OF_RANGE", details: { start_offset: "0", end_offset: "2" } });
});

test("bad input: going back needs a reset", async () => {
  expect(await client.commitOffsets("events", "billing", [{ partition: 0, offset: 2 }])).toEqual([]);
  expect((await client.commitOffsets("events", "billing", [{ partition: 0, offset: 1 }]))[0]!.error.reason).toBe("OFFSET_WOULD_GO_BACK");
  expect(await client.commitOffsets("events", "billing", [{ partition: 0, offset: 1, reset: true }])).toEqual([]);
});

test("bad input: garbage on the peer port is closed, and the cluster goes on", async () => {
  const socket = connect(cluster.peerPort(1), "127.0.0.1");
  await once(socket, "connect");
  socket.on("error", () => {});
  socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await once(socket, "close");
  expect((await client.publish("events", [{ body: "still here" }], { partition: 1 })).count).toBe(1);
});

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const serve = (flags: readonly string[]): ReturnType<typeof runProgram> =>
  runProgram(process.execPath, [
    main,
    "serve",
    "--log-level",
    "error",
    "--api-port",
    "0",
    "--peer-port",
    "0",
    "--http-port",
    "0",
    ...flags,
  ]);

test("bad input: settings that cannot be are refused by name", async () => {
  const unknown = await serve(["--data-dir", cluster.dataDir(9), "--peers", "nonsense"]);
  expect([unknown.code, unknown.stderr]).toEqual([2, expect.stringContaining("peers")]);
  const range = await serve(["--node-id", "5000"]);
  expect([range.code, range.stderr]).toEqual([2, expect.stringContaining("--node-id")]);
});

test("bad input: a data directory in use, of another node or of another cluster is refused", async () => {
  const busy = await serve(["--data-dir", cluster.dataDir(1), "--cluster-id", "test"]);
  expect([busy.code, busy.stderr]).toEqual([1, expect.stringContaining("in use by process")]);
  await cluster.stop(3);
  const node = await serve(["--data-dir", cluster.dataDir(3), "--cluster-id", "test", "--node-id", "1"]);
  expect([node.code, node.stderr]).toEqual([1, expect.stringContaining("belongs to node 3")]);
  const other = await serve(["--data-dir", cluster.dataDir(3), "--cluster-id", "other", "--node-id", "3"]);
  expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('belongs to cluster "test"')]);
  cluster.start(3);
  await cluster.ready(3);
});

test("bad input: a node of another cluster, and a second node with a used id, end with the reason", async () => {
  const peers = cluster.nodeIds.map((id) => `${id}=127.0.0.1:${cluster.peerPort(id)}`);
  const stranger = await serve([
    "--data-dir",
    join(cluster.directory, "stranger"),
    "--cluster-id",
    "other",
    "--node-id",
    "4",
    "--peers",
    [...peers, "4=127.0.0.1:1"].join(","),
  ]);
  expect(stranger.code).not.toBe(0);
  expect(stranger.stdout.toString()).toContain("WRONG_CLUSTER");
  const twin = await serve([
    "--data-dir",
    join(cluster.directory, "twin"),
    "--cluster-id",
    "test",
    "--node-id",
    "3",
    "--peers",
    peers.join(","),
  ]);
  expect(twin.code).not.toBe(0);
  expect(twin.stdout.toString()).toMatch(/DUPLICATE_NODE|STORE_MISMATCH/);
});

test("bad input: with nobody to heal from, a damaged log file keeps the node from starting, and says which", async () => {
  await using alone = await startCluster({ nodes: 1 });
  await using lonely = await Flotilla.connect({ endpoints: alone.endpoints });
  await lonely.admin.createTopic({ name: "events", partitions: 2, replicas: 1 });
  for (let count = 0; count < 50; count++) await lonely.publish("events", [{ body: `fill ${count}` }], { partition: 0 });
  await alone.kill(1);
  const directory = join(alone.dataDir(1), "log");
  const [file] = (await readdir(directory)).filter((name) => name.endsWith(".seg")).sort();
  const bytes = await readFile(join(directory, file!));
  bytes[60]! ^= 0xff;
  await writeFile(join(directory, file!), bytes);
  alone.start(1);
  expect(await alone.exited(1)).toBe(1);
  expect(alone.outputOf(1)).toContain(file!);
});

test("bad input: without a majority a publish fails with a reason, and works again afterwards", async () => {
  for (const node of [2, 3]) await cluster.kill(node);
  const lonely = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  expect(await codeOf(lonely.publish("events", [{ body: "nobody" }], { partition: 0 }))).toMatch(
    /NO_LEADER|LEADER_CHANGED|NODE_UNREACHABLE|TIMEOUT/,
  );
  const listed = await flotilla(cluster.endpoints[0]!, ["cluster", "status"]);
  expect([listed.code, listed.stdout.toString()]).toEqual([1, expect.stringContaining("down")]);
  cluster.start(3);
  await cluster.ready(3);
  expect((await lonely.publish("events", [{ body: "again" }], { partition: 0 })).count).toBe(1);
  await lonely.close();
});
