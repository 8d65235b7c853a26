// A rolling upgrade to a release whose machines go by new rules (raft checklist, point 31).

import { expect, test } from "vitest";
import type { ApplyMeta, Effects } from "../../src/machine/machine.ts";
import { machineFor } from "../../src/machine/registry.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { ENTRY_RECORDS } from "../../src/raft/types.ts";
import { ReleaseTooOldError } from "../../src/replica/rules.ts";
import { eventually, GROUP, HostCluster, type TestHost } from "../support/host-cluster.ts";

const SETTINGS = { tailCacheBytesMax: 1024 * 1024 };
const REFUSED = 99;
const BODY = new Uint8Array(10);

/** The next release's: from version 2 on a stream takes no records, so whoever goes by the wrong rules shows it. */
class NextMachine extends StreamMachine {
  override readonly newestVersion = 2;

  override apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    if (this.version === 2 && kind === ENTRY_RECORDS) effects.reply(REFUSED, 0, null);
    else super.apply(meta, kind, payload, effects);
  }
}

function install(host: TestHost, release: "old" | "next"): void {
  host.rulesVersion = release === "old" ? 1 : 2;
  host.machineOf = release === "old" ? machineFor : () => new NextMachine();
}

async function upgrade(cluster: HostCluster, host: TestHost): Promise<void> {
  await cluster.stop(host);
  install(host, "next");
  await cluster.start(host);
  await cluster.settled();
}

const versions = (cluster: HostCluster): number[] => cluster.hosts.map(({ stream }) => stream.version);
const states = (cluster: HostCluster): string[] => cluster.hosts.map(({ stream }) => Buffer.from(stream.snapshot()).toString("hex"));

/** As a leader does again and again. */
async function raised(cluster: HostCluster, version: number): Promise<void> {
  await eventually(() => {
    for (const { host } of cluster.hosts) host.raiseVersion(GROUP);
    return versions(cluster).every((one) => one === version);
  }, `version ${version} in force everywhere`);
}

test("rules: a version is in force from one entry on, once every member knows it, and stays so over starts", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  expect((await (await cluster.leader()).publish(1, BODY)).code).toBe(0);
  for (const host of cluster.hosts.slice(0, 2)) await upgrade(cluster, host);
  for (const { host } of cluster.hosts) host.raiseVersion(GROUP);
  // One member would not understand it.
  expect((await (await cluster.leader()).publish(1, BODY)).code).toBe(0);
  await cluster.settled();
  expect(versions(cluster)).toEqual([1, 1, 1]);

  await upgrade(cluster, cluster.hosts[2]!);
  await raised(cluster, 2);
  expect((await (await cluster.leader()).publish(1, BODY)).code).toBe(REFUSED);
  await cluster.settled();
  expect(new Set(states(cluster)).size).toBe(1);
  expect(cluster.hosts[0]!.stream.endOffset).toBe(2);

  // Replayed from before the switch, and from a checkpoint after it.
  await cluster.hosts[0]!.kill();
  await cluster.start(cluster.hosts[0]!);
  await cluster.stop(cluster.hosts[1]!);
  await cluster.start(cluster.hosts[1]!);
  await cluster.settled();
  expect(versions(cluster)).toEqual([2, 2, 2]);
  expect(new Set(states(cluster)).size).toBe(1);
});

test("rules: a release that is too old for what is in force says so, and applies nothing", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  for (const host of cluster.hosts) await upgrade(cluster, host);
  const [old, ...others] = cluster.hosts as [TestHost, TestHost, TestHost];
  await old.kill();
  await eventually(() => {
    for (const { host } of others) host.raiseVersion(GROUP);
    return others.every(({ stream }) => stream.version === 2);
  }, "the others go by it");
  // Put back under a node that was away.
  install(old, "old");
  await cluster.start(old);
  await eventually(() => old.count("fatal") > 0, "it says so");
  const { error } = old.logged.find(({ event }) => event === "fatal")!.fields;
  expect(error).toBeInstanceOf(ReleaseTooOldError);
  expect((error as Error).message).toContain("start this node with a newer release");
  expect(old.stream.version).toBe(1);
});

test("rules: a release that is too old for a checkpoint does not open it", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  for (const host of cluster.hosts) await upgrade(cluster, host);
  await raised(cluster, 2);
  const [old] = cluster.hosts as [TestHost];
  await cluster.stop(old);
  install(old, "old");
  await expect(cluster.start(old)).rejects.toThrow(ReleaseTooOldError);
  install(old, "next");
});
