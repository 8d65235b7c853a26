import { expect, test } from "vitest";
import { HOST_STOPPING } from "../../src/replica/types.ts";
import { HostCluster } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(200, "x");

/** Lets what is due on the event loop happen once. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("stop: a host ends while a write is under way and more waits for it", { timeout: 20_000 }, async () => {
  await using cluster = await HostCluster.start(1);
  for (let round = 0; round < 30; round++) {
    const host = await cluster.leader();
    const answers = [host.publish(1, BODY)];
    // With luck the first is being written now, and the second one waits.
    for (let turns = 0; turns <= round % 3; turns++) await turn();
    answers.push(host.publish(1, BODY));
    await turn();
    await cluster.stop(host);
    for (const { code } of await Promise.all(answers)) expect([0, HOST_STOPPING]).toContain(code);
    await cluster.start(host);
  }
});
