// Where durable data was damaged, so that there is always enough that is not. The product heals a replica as a whole, from a
// majority of the group's other voters (src/README.md, "one way to heal"). So what must be left is counted in replicas: of each group
// at most a minority of the voters may be damaged at one time, whatever nodes they are on, and when the damage is done the others hold
// everything. Several nodes may be damaged at once, each in other groups.

import { CATALOG_GROUP, nodeOfReplica, type GroupId, type ReplicaId } from "../../src/base/ids.ts";
import type { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import {
  BATCH_HEADER_BYTES,
  FILE_HEADER_BYTES,
  RECORD_HEADER_BYTES,
  decodeFileHeader,
  readBatchHeader,
  readRecordHeader,
} from "../../src/log/segment-format.ts";
import type { Replica } from "../../src/replica/replica.ts";
import type { Inode } from "./sim-inode.ts";
import { DATA_DIR, type SimMachine } from "./sim-node.ts";

/** Certain groups, or all of which the node holds a replica: a log that is refused as a whole is taken for a lost disk. */
export type Scope = readonly GroupId[] | "all";

/** A group as its leader has it. */
type GroupView = {
  readonly voters: readonly ReplicaId[];
  /** With those that learn, and may vote in a moment. */
  readonly members: readonly ReplicaId[];
  readonly isCalm: boolean;
  readonly lastIndex: number;
};

type Mark = {
  readonly machine: SimMachine;
  /** It may cost all that the node holds, and what it gets until then too. */
  readonly isWhole: boolean;
  /** The replicas that it may have damaged. */
  readonly replicas: ReadonlyMap<GroupId, ReplicaId>;
  /** Whether what was damaged is there still. */
  readonly isThere: () => boolean;
};

export class Atlas {
  private readonly machines: readonly SimMachine[];
  private marks: Mark[] = [];
  /** Nodes that were ever damaged. */
  readonly struck = new Set<SimMachine>();

  constructor(machines: readonly SimMachine[]) {
    this.machines = machines;
  }

  /** Damage of this scope on this node leaves enough. A replica may be moved at any time, and to a node where all is damaged. */
  allows(machine: SimMachine, scope: Scope): boolean {
    this.marks = this.marks.filter((mark) => this.isLive(mark));
    const sick = new Set(this.marks.flatMap((mark) => (mark.isWhole && mark.machine !== machine ? [mark.machine.id] : [])));
    for (const group of scope === "all" ? this.groups() : scope) {
      const view = this.viewOf(group);
      if (view === null || !view.isCalm) return false;
      const others = view.voters.filter((voter) => nodeOfReplica(voter) !== machine.id);
      const damaged = others.filter((voter) => this.isDamaged(group, voter));
      const nodes = new Set([...sick, ...damaged.map(nodeOfReplica)]);
      if (nodes.size + 1 > Math.floor((view.voters.length - 1) / 2)) return false;
      if (!others.every((voter) => damaged.includes(voter) || this.isUpToDate(group, voter, view))) return false;
    }
    return true;
  }

  /** `isThere` false, for good: what was damaged was overwritten or is gone. */
  note(machine: SimMachine, scope: Scope, isThere: () => boolean): void {
    this.struck.add(machine);
    const replicas = new Map<GroupId, ReplicaId>();
    for (const group of scope === "all" ? this.groups() : scope) {
      // Of two lives of a node the one that is there: it may vote only later.
      const own = machine.host?.get(group)?.descriptor.self;
      const member = own ?? this.viewOf(group)?.voters.find((one) => nodeOfReplica(one) === machine.id);
      if (member !== undefined) replicas.set(group, member);
    }
    this.marks.push({ machine, isWhole: scope === "all", replicas, isThere });
  }

  /** It has another disk: nothing of what was damaged before is there. */
  wiped(machine: SimMachine): void {
    this.marks = this.marks.filter((mark) => mark.machine !== machine);
  }

  /** Nodes that may hold damage. */
  get damaged(): SimMachine[] {
    this.marks = this.marks.filter((mark) => this.isLive(mark));
    return [...new Set(this.marks.map(({ machine }) => machine))];
  }

  /** Groups of which a replica is, or is to be, on this node. */
  heldBy(machine: SimMachine): GroupId[] {
    const catalog = this.catalog();
    if (catalog === null) return [CATALOG_GROUP];
    const held: GroupId[] = [CATALOG_GROUP];
    for (const topic of catalog.topics())
      for (const { group, replicas } of topic.partitions)
        if (
          replicas.some((replica) => nodeOfReplica(replica) === machine.id) ||
          this.viewOf(group)?.voters.some((voter) => nodeOfReplica(voter) === machine.id) === true
        )
          held.push(group);
    return held;
  }

  private groups(): GroupId[] {
    const topics = [...(this.catalog()?.topics() ?? [])];
    return [CATALOG_GROUP, ...topics.flatMap(({ partitions }) => partitions.map(({ group }) => group))];
  }

  private isLive({ isWhole, replicas, isThere }: Mark): boolean {
    const there = isThere();
    if (isWhole && there) return true;
    for (const [group, replica] of replicas) {
      const view = this.viewOf(group);
      if (view === null) {
        if (this.catalog()?.groupState(group) !== "deleted") return true;
        continue;
      }
      if (view.members.includes(replica) && (there || !this.isUpToDate(group, replica, view))) return true;
    }
    return false;
  }

  private isDamaged(group: GroupId, voter: ReplicaId): boolean {
    return this.marks.some(({ isWhole, machine, replicas, isThere }) => {
      if (replicas.get(group) === voter) return true;
      return isWhole && machine.id === nodeOfReplica(voter) && isThere();
    });
  }

  private isUpToDate(group: GroupId, voter: ReplicaId, { lastIndex }: GroupView): boolean {
    const replica = this.replicaOf(group, voter);
    return replica !== undefined && replica.applied === lastIndex;
  }

  private replicaOf(group: GroupId, voter: ReplicaId): Replica | undefined {
    const replica = this.machines[nodeOfReplica(voter) - 1]?.host?.get(group);
    return replica?.descriptor.self === voter ? replica : undefined;
  }

  /** Null while nobody leads it. */
  private viewOf(group: GroupId): GroupView | null {
    let leader: Replica | null = null;
    for (const { host } of this.machines) {
      const replica = host?.get(group);
      if (replica?.isLeader === true && replica.raft.term > (leader?.raft.term ?? -1)) leader = replica;
    }
    if (leader === null) return null;
    const { voters, votersOutgoing, learners } = leader.configuration;
    const isStream = leader.descriptor.kind === "stream";
    const isWanted = !isStream || (learners.length === 0 && this.isPlaced(group, voters as readonly ReplicaId[]));
    return {
      voters: voters as readonly ReplicaId[],
      members: [...voters, ...learners] as unknown as readonly ReplicaId[],
      // Every node is a member of the catalog's group: further ones learn.
      isCalm: votersOutgoing.length === 0 && isWanted && leader.applied === leader.raft.lastIndex,
      lastIndex: leader.raft.lastIndex,
    };
  }

  /** No move is under way. */
  private isPlaced(group: GroupId, voters: readonly ReplicaId[]): boolean {
    const known = this.catalog()?.group(group);
    const wanted = known?.topic.partitions[known.partition]!.replicas ?? [];
    return wanted.length === voters.length && wanted.every((replica) => voters.includes(replica));
  }

  /** Of all that are at work, the one that has applied most. */
  catalog(): CatalogMachine | null {
    let best: Replica | undefined;
    for (const { host } of this.machines) {
      const replica = host?.get(CATALOG_GROUP);
      if (replica !== undefined && replica.applied > (best?.applied ?? -1)) best = replica;
    }
    return best === undefined ? null : (best.machine as CatalogMachine);
  }
}

/** What a byte of a file belongs to. */
export type Place = {
  readonly scope: Scope;
  /** Nothing durable lies behind it that would tell damage from a torn write. */
  readonly isTail: boolean;
};

export function placeOf(path: string, inode: Inode, position: number): Place {
  const isCatalog = isOfCatalog(path);
  if (!isCatalog && !path.startsWith(`${DATA_DIR}/log/`)) return { scope: "all", isTail: false };
  const { group, isTail } = recordAt(inode.read(0, inode.size), position);
  if (isCatalog) return { scope: [CATALOG_GROUP], isTail };
  return { scope: group === null ? "all" : [group], isTail };
}

/** What a file touches that is damaged as a whole. */
export function scopeOfFile(path: string): Scope {
  return isOfCatalog(path) ? [CATALOG_GROUP] : "all";
}

function isOfCatalog(path: string): boolean {
  return path.startsWith(`${DATA_DIR}/catalog/`);
}

/** Whose payload it is; null: a header, or something else that others need as well. */
function recordAt(bytes: Uint8Array, position: number): { readonly group: GroupId | null; readonly isTail: boolean } {
  const salt = decodeFileHeader(bytes)?.salt;
  if (salt === undefined) return { group: null, isTail: false };
  for (let at = FILE_HEADER_BYTES; ;) {
    const batch = readBatchHeader(bytes, at, salt);
    if (batch === undefined) return { group: null, isTail: position >= at };
    const end = at + BATCH_HEADER_BYTES + batch.bytes;
    if (position < end) {
      const isTail = readBatchHeader(bytes, end, salt) === undefined;
      return { group: payloadAt(bytes, at + BATCH_HEADER_BYTES, position, salt), isTail };
    }
    at = end;
  }
}

function payloadAt(bytes: Uint8Array, start: number, position: number, salt: number): GroupId | null {
  for (let at = start; at <= position;) {
    const header = readRecordHeader(bytes, at, salt);
    if (header === undefined || position < at + RECORD_HEADER_BYTES) return null;
    at += RECORD_HEADER_BYTES + header.length;
    if (position < at) return header.group as GroupId;
  }
  return null;
}
