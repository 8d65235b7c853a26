import { expect, test } from "vitest";
import { replicaId, type GroupId } from "../../src/base/ids.ts";
import { CHECKPOINTS_PER_GROUP_MAX } from "../../src/base/limits.ts";
import { encodeTrim } from "../../src/machine/stream/commands.ts";
import { DURABILITY_FSYNC, HOST_STOPPING, type Checkpoint } from "../../src/replica/types.ts";
import { eventually, GROUP, HostCluster } from "../support/host-cluster.ts";

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

test("stop: the store is still in use until old checkpoints are gone from it", async () => {
  await using cluster = await HostCluster.start(1, { checkpointEntries: 4 });
  const host = await cluster.leader();
  const { checkpoints } = host;
  const deleteBelow = checkpoints.deleteBelow.bind(checkpoints);
  let release = (): void => {};
  let deleting = 0;
  checkpoints.deleteBelow = async (...call) => {
    deleting += 1;
    await new Promise<void>((resolve) => (release = resolve));
    await deleteBelow(...call);
  };
  for (let entries = 0; entries < 20; entries++) await host.publish(1, BODY);
  await host.command(encodeTrim(20));
  for (let entries = 0; entries < 20; entries++) await host.publish(1, BODY);
  await eventually(() => deleting > 0, "the log is cut at a checkpoint");
  let isStopped = false;
  const stopping = host.host.stop().then(() => (isStopped = true));
  for (let turns = 0; turns < 50; turns++) await turn();
  expect(isStopped).toBe(false);
  checkpoints.deleteBelow = deleteBelow;
  release();
  await stopping;
});

test("stop: a log that the last save has cut begins where there is a checkpoint", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  for (let entries = 0; entries < 20; entries++) await host.publish(1, BODY);
  await host.command(encodeTrim(20));
  await cluster.stop(host);
  await cluster.start(host);
  expect(host.host.has(GROUP)).toBe(true);
  expect(host.stream.endOffset).toBe(20);
});

test("stop: of a log that is never cut no more checkpoints are kept than may be, and no more come back", { timeout: 20_000 }, async () => {
  await using cluster = await HostCluster.start(1, { checkpointEntries: 1 });
  const host = await cluster.leader();
  const { checkpoints } = host;
  const save = checkpoints.save.bind(checkpoints);
  const saved: Checkpoint[] = [];
  checkpoints.save = (group, checkpoint) => {
    saved.push(checkpoint);
    return save(group, checkpoint);
  };
  while (saved.length < 3 * CHECKPOINTS_PER_GROUP_MAX) await host.publish(1, BODY);
  await cluster.stop(host);
  await cluster.start(host);
  const held = [...host.host.get(GROUP)!.checkpointIndexes];
  expect(await host.checkpoints.list(GROUP)).toEqual(held);
  expect(held.length).toBeLessThanOrEqual(CHECKPOINTS_PER_GROUP_MAX);
  expect(held.at(-1)).toBe(saved.at(-1)!.index);

  // As a release that kept all of them has left it.
  for (const checkpoint of saved) await host.checkpoints.save(GROUP, checkpoint);
  await cluster.stop(host);
  await cluster.start(host);
  const { checkpointIndexes } = host.host.get(GROUP)!;
  expect(checkpointIndexes.length).toBeLessThanOrEqual(CHECKPOINTS_PER_GROUP_MAX);
  expect(checkpointIndexes[0]).toBe(held[0]);
  await cluster.stop(host);
  await cluster.start(host);
  expect(await host.checkpoints.list(GROUP)).toEqual(host.host.get(GROUP)!.checkpointIndexes);
});

test("stop: a saved state that a start has passed over is none at which the log may be cut", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  for (let entries = 0; entries < 20; entries++) await host.publish(1, BODY);
  await cluster.stop(host);
  await cluster.start(host);
  const { checkpointIndexes } = host.host.get(GROUP)!;
  const newest = await host.checkpoints.read(GROUP, checkpointIndexes.at(-1)!);
  // As one that came from a leader and was to replace the log.
  await host.checkpoints.save(GROUP, { ...newest!, term: newest!.term + 1 });
  await cluster.kill(host);
  await cluster.start(host);
  expect(host.host.get(GROUP)!.checkpointIndexes).toEqual(checkpointIndexes.slice(0, -1));
});

test("stop: the store is still in use while a replica is being opened", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  const { checkpoints } = host;
  const save = checkpoints.save.bind(checkpoints);
  let release: (() => void) | null = null;
  checkpoints.save = async (...call) => {
    await new Promise<void>((resolve) => (release = resolve));
    await save(...call);
  };
  const self = replicaId(host.id, 0);
  const opening = host.host.open({
    group: (GROUP + 1) as GroupId,
    kind: "stream",
    self,
    members: { voters: [self], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
    preferred: true,
    durability: DURABILITY_FSYNC,
  });
  await eventually(() => release !== null, "its first state is being saved");
  checkpoints.save = save;
  let isStopped = false;
  const stopping = host.host.stop().then(() => (isStopped = true));
  for (let turns = 0; turns < 50; turns++) await turn();
  expect(isStopped).toBe(false);
  release!();
  await stopping;
  expect(await opening).toBe(false);
});
