// The hopeless mode: what a majority held is damaged, behind every promise that the product makes. What is demanded is that it
// refuses. Only what nobody could take for a write torn by a crash is damaged: that the newest batch of a log may pass for one is
// a known limit (src/README.md).

import { Prng, type Random } from "../../src/base/prng.ts";
import { CATALOG_GROUP, nodeOfReplica, type GroupId, type ReplicaId } from "../../src/base/ids.ts";
import type { Action } from "./actions.ts";
import { findSpot, flip, type Spot } from "./damage.ts";
import { DATA_DIR, type SimMachine } from "./sim-node.ts";
import { pick } from "./world.ts";

const TRIES = 400;
const SPOTS = 3;

/** What it did, node by node; empty when it found nothing to do it to. */
export function ruin(machines: readonly SimMachine[], { how, roll }: Action): string[] {
  const random = new Prng(roll);
  const group = how === "disks" ? CATALOG_GROUP : pickGroup(machines, random);
  const voters = group === null ? null : votersOf(machines, group);
  if (voters === null || voters.length < 3) return [];
  const nodes = voters.map((voter) => machines[nodeOfReplica(voter) - 1]!);
  while (nodes.length > Math.floor(voters.length / 2) + 1) nodes.splice(random.below(nodes.length), 1);
  return nodes.flatMap((machine) => strike(machine, how, group!, random).map((what) => `${machine.name}: ${what}`));
}

function strike(machine: SimMachine, how: string, group: GroupId, random: Random): string[] {
  switch (how) {
    case "entries":
      return flipSome(machine, random, ({ scope, isTail }) => !isTail && scope !== "all" && scope[0] === group);
    case "files":
      return flipSome(machine, random, ({ scope, isTail }) => !isTail && scope === "all");
    case "stores": {
      machine.crash("kill");
      const lost = machine.disk.stores.get(`${DATA_DIR}/store`)?.makeHole(random) ?? 0;
      return lost === 0 ? [] : [`${lost} batches of the store`];
    }
    default:
      machine.crash("power");
      machine.disk.wipe();
      return ["another disk"];
  }
}

function flipSome(machine: SimMachine, random: Random, wanted: (spot: Spot) => boolean): string[] {
  const done: string[] = [];
  for (let tries = 0; tries < TRIES && done.length < SPOTS; tries++) {
    const spot = findSpot(machine, random, wanted);
    if (spot === null) continue;
    flip(spot, random);
    done.push(`${spot.path} at byte ${spot.position}`);
  }
  return done;
}

function pickGroup(machines: readonly SimMachine[], random: Random): GroupId | null {
  const groups = new Set<GroupId>();
  for (const { host } of machines) for (const { group } of host?.groups() ?? []) groups.add(group);
  return groups.size === 0
    ? null
    : pick(
        random,
        [...groups].sort((a, b) => a - b),
      );
}

function votersOf(machines: readonly SimMachine[], group: GroupId): readonly ReplicaId[] | null {
  for (const { host } of machines) {
    const replica = host?.get(group);
    if (replica?.isLeader === true) return replica.configuration.voters as readonly ReplicaId[];
  }
  return null;
}
