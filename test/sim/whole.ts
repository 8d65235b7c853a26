// Whether a cluster is whole: every node has all of what is committed, is a member where it is to be one, and every group is led.

import { CATALOG_GROUP, nodeOfReplica } from "../../src/base/ids.ts";
import type { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import type { Replica } from "../../src/replica/replica.ts";
import type { SimMachine } from "./sim-node.ts";

/** Why not every node has all of what is committed; "" when each has. */
export function lackOf(machines: readonly SimMachine[]): string {
  const dead = machines.find(({ broker, host }) => host === null || broker?.ready !== true);
  if (dead !== undefined) return `${dead.name} is not ready`;
  const catalogs = machines.map(({ host }) => host!.get(CATALOG_GROUP));
  if (catalogs.some((one) => one === undefined)) return "a node has no replica of the catalog";
  const first = catalogs[0]!;
  if (catalogs.some((one) => one!.applied !== first.applied || one!.raft.lastIndex !== first.raft.lastIndex)) return "the catalogs differ";
  const { voters, learners, votersOutgoing } = first.configuration;
  if (votersOutgoing.length > 0 || voters.length + learners.length !== machines.length) return "the catalog's members are not in place";
  for (const topic of (first.machine as CatalogMachine).topics())
    for (const { group, replicas } of topic.partitions) {
      const here = replicas.map((id) => {
        const replica = machines[nodeOfReplica(id) - 1]!.host!.get(group);
        return replica?.descriptor.self === id ? replica : undefined;
      });
      const reason = lackOfGroup(here, replicas.length);
      if (reason !== "") return `group ${group}: ${reason}; ${here.map(viewOf).join(" | ")}`;
    }
  const stray = machines.find(({ host }) => [...host!.heldGroups()].some((group) => host!.quarantine.of(group) !== undefined));
  return stray === undefined ? "" : `${stray.name} holds a damaged replica`;
}

/** For the message when a group never comes to rest. */
function viewOf(replica: Replica | undefined): string {
  if (replica === undefined) return "none";
  const { raft, configuration, descriptor, applied, awake } = replica;
  const { voters, votersOutgoing, learners } = configuration;
  return (
    `replica ${descriptor.self}: role ${raft.role} term ${raft.term} leader ${raft.leader} last ${raft.lastIndex} committed ${raft.commitIndex} ` +
    `applied ${applied} voters ${voters.join("+")} outgoing ${votersOutgoing.join("+")} learners ${learners.join("+")}${awake ? "" : " at rest"}`
  );
}

function lackOfGroup(replicas: readonly (Replica | undefined)[], count: number): string {
  const there = replicas.filter((replica) => replica !== undefined);
  if (there.length < count) return "a replica is not in service";
  const leader = there.find(({ isLeader }) => isLeader);
  if (leader === undefined) return "no leader";
  const { voters, votersOutgoing, learners } = leader.configuration;
  if (voters.length !== count || votersOutgoing.length > 0 || learners.length > 0) return "the members are not those wanted";
  if (!there.every(({ descriptor }) => voters.includes(descriptor.self))) return "a replica is no voter";
  if (there.some(({ applied }) => applied !== leader.raft.lastIndex)) return "a replica lags";
  return "";
}
