import { expect, test } from "vitest";
import { CATALOG_GROUP, replicaId } from "../../src/base/ids.ts";
import { ENTRY_COMMAND } from "../../src/raft/types.ts";
import { DURABILITY_FSYNC } from "../../src/replica/types.ts";
import { eventually, GROUP, HostCluster } from "../support/host-cluster.ts";

test("what a committed command removed goes only once a restart is sure to know that command", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  const self = replicaId(host.id, 0);
  await host.host.open({
    group: CATALOG_GROUP,
    kind: "catalog",
    self,
    members: { voters: [self], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
    preferred: true,
    durability: DURABILITY_FSYNC,
  });
  const catalog = host.host.get(CATALOG_GROUP)!;
  await eventually(() => catalog.isLeader, "the catalog is led");
  const { checkpoints } = host;
  const calls: string[] = [];
  const [save, deleteGroups] = [checkpoints.save.bind(checkpoints), checkpoints.deleteGroups.bind(checkpoints)];
  checkpoints.save = async (group, checkpoint) => {
    await save(group, checkpoint);
    calls.push(`saved ${group} at ${checkpoint.index}`);
  };
  checkpoints.deleteGroups = async (groups) => {
    calls.push(`deleted ${groups.join()}`);
    await deleteGroups(groups);
  };
  for (let commands = 0; commands < 3; commands++) await host.propose(ENTRY_COMMAND, Buffer.from("x"), CATALOG_GROUP);
  // A save of an older state is under way.
  void host.host.remove([]);
  await host.propose(ENTRY_COMMAND, Buffer.from("x"), CATALOG_GROUP);
  const { applied } = catalog;
  await host.host.remove([GROUP]);
  expect(calls.slice(-2)).toEqual([`saved 0 at ${applied}`, "deleted 1"]);
  expect(host.host.has(GROUP)).toBe(false);
  // The cluster's helpers ask for it.
  await host.host.open({ group: GROUP, kind: "stream", self, members: null, preferred: false, durability: DURABILITY_FSYNC });
});
