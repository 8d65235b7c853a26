// A node that restarts its parts within the process, as what is common to all its groups is damaged, ends well what clients have
// under way: it hears its peers, and the groups that it leads go on, until nothing is asked of it any more.

import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { find } from "../../bench/damaged-files.ts";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";
import { until, whole } from "../support/until.ts";

const TOPIC = "orders";
const NODE = 2;
/** A call that finds nobody fails at once. */
const RETRY_MS = 20;

test("restart of the parts: calls under way are answered, and nobody waits for those that are not", { timeout: 120_000 }, async () => {
  await using cluster = await startCluster({
    nodes: 3,
    env: { FLOTILLA_SCRUB_BYTES_PER_SECOND: String(256 * 1024 * 1024), FLOTILLA_SCRUB_PAUSE_MS: "100" },
  });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: TOPIC, partitions: 6, replicas: 3 });
  const load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 2 }), 20);
  load.start();
  // Publishes through the node to whoever leads: forwarded calls are under way all the time.
  await using through = await Flotilla.connect({ endpoints: [cluster.endpoints[NODE - 1]!] });
  let isOver = false;
  const published = (async () => {
    for (let turn = 0; !isOver; turn++) await through.publish(TOPIC, [{ body: "x" }], { partition: turn % 6 }).catch(() => delay(RETRY_MS));
  })();
  await load.progress(500);
  const path = join(cluster.dataDir(NODE), (await find("catalog segment", cluster.dataDir(NODE)))!);
  const since = Date.now();
  const file = await open(path, "r+");
  await file.truncate(0);
  await file.close();
  const said = (text: string): string[] => cluster.loggedSince(NODE, since).filter((one) => one.includes(text));
  await until("the node has closed its parts", () => said("it is fetched again from the other nodes").length > 0);
  // Those that nobody answers any more are waited for, for two seconds, and then cut off.
  expect(said("calls of clients are ended without an answer")).toEqual([]);
  await whole(cluster, client);
  isOver = true;
  await published;
  await load.stop();
  const received = await readAll(cluster.endpoints[0]!, TOPIC);
  const own = received.filter(({ body }) => Buffer.from(body).toString() !== "x");
  expect(violations(load.acked, own).filter((text) => !text.startsWith("L4: partition"))).toEqual([]);
});
