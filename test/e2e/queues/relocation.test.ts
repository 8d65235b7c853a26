// One message that stays behind much settled traffic: the log behind it goes, the message does not.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Flotilla } from "../../../src/client/index.ts";
import { startCluster } from "../../support/cluster.ts";
import { until } from "../../support/until.ts";

const MESSAGE_BYTES = 64 * 1024;
const TRAFFIC = Buffer.alloc(MESSAGE_BYTES);
const SEGMENT_BYTES = 16 * 1024 * 1024;
/** Of settled messages. */
const TRAFFIC_BYTES = 192 * 1024 * 1024;
const KEPT_BYTES_MAX = 160 * 1024 * 1024;

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder, { recursive: true }).catch(() => []))
    bytes += await stat(join(folder, name)).then(
      (entry) => (entry.isFile() ? entry.blocks * 512 : 0),
      () => 0,
    );
  return bytes;
}

test(
  "queue: what was settled behind a message that stays gives its place back, and the message is there",
  { timeout: 180_000 },
  async () => {
    await using cluster = await startCluster({ nodes: 3, env: { FLOTILLA_SEGMENT_BYTES: String(SEGMENT_BYTES) } });
    await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
    await client.queues.createQueue({ name: "dead" });
    await client.queues.createQueue({ name: "q", settings: { deadLetterExchange: "", deadLetterKey: "dead" } });
    await client.publish("q", [{ body: "stays" }, { body: "is of no use", key: "k" }, { body: "is lost with its consumer" }]);
    await using holder = await client.queueConsumer("q", { prefetch: 2 });
    const held = [(await holder.next())!, (await holder.next())!];
    {
      await using other = await client.queueConsumer("q", { prefetch: 1 });
      expect(Buffer.from((await other.next())!.body).toString()).toBe("is lost with its consumer");
      await using worker = await client.queueConsumer("q", { prefetch: 200 });
      const producer = await client.producer("q");
      const [turn, turns] = [64, TRAFFIC_BYTES / MESSAGE_BYTES / 64];
      const publishing = (async () => {
        for (let at = 0; at < turns; at++) await Promise.all(Array.from({ length: turn }, () => producer.send({ body: TRAFFIC })));
      })();
      for (let taken = 0; taken < turn * turns; taken++) void (await worker.next())!.ack();
      await publishing;
      await until(
        "every node has its disk back",
        async () => {
          const kept = await Promise.all(cluster.nodeIds.map((node) => bytesIn(cluster.dataDir(node))));
          return kept.every((bytes) => bytes < KEPT_BYTES_MAX);
        },
        60_000,
      );
      await other.close({ timeoutMs: 0 });
    }
    await held[0]!.nack();
    await held[1]!.reject();
    await holder.close();
    await using reader = await client.queueConsumer("q", { prefetch: 10 });
    const again = [(await reader.next())!, (await reader.next())!];
    expect(again.map(({ body, attempt }) => [Buffer.from(body).toString(), attempt])).toEqual([
      ["stays", 2],
      ["is lost with its consumer", 2],
    ]);
    for (const message of again) await message.ack();
    await using dead = await client.queueConsumer("dead");
    expect(Buffer.from((await dead.next())!.body).toString()).toBe("is of no use");
  },
);
