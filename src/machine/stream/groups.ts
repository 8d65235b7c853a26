// Consumer groups of a topic: who is a member, and which partitions each one reads. A partition goes from one member to another only
// when the first one says that it no longer reads it, or is gone; the generation tells late words of such a one from those that count.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { GROUPS_PER_TOPIC_MAX, MEMBERS_PER_GROUP_MAX } from "../../base/limits.ts";
import { STREAM_GROUP_IN_USE, STREAM_GROUP_UNKNOWN, STREAM_OK, STREAM_TOO_MANY_CURSORS } from "./codes.ts";
import type { GroupOperation } from "./group-operations.ts";

const NOBODY = "";

/** What a member is to read, and what it is to let go of. */
export type Assignment = { readonly generation: number; readonly partitions: readonly number[]; readonly revoked: readonly number[] };

export type GroupDescription = {
  readonly generation: number;
  readonly members: readonly { readonly name: string; readonly partitions: readonly number[]; readonly revoked: readonly number[] }[];
};

class Group {
  generation = 0;
  /** By partition: who reads it, and who is to read it; "" = nobody. */
  owners: string[] = [];
  targets: string[] = [];
  /** Ascending. */
  members: string[] = [];

  join(member: string, partitions: number): void {
    const isNew = !this.members.includes(member);
    if (isNew) this.members = [...this.members, member].sort();
    const before = this.targets.length;
    for (let partition = before; partition < partitions; partition++) {
      this.owners.push(NOBODY);
      this.targets.push(NOBODY);
    }
    if (isNew || this.targets.length > before) this.rebalance();
  }

  leave(member: string): void {
    if (!this.members.includes(member)) return;
    this.members = this.members.filter((other) => other !== member);
    this.owners = this.owners.map((owner) => (owner === member ? NOBODY : owner));
    this.rebalance();
  }

  release(member: string, partitions: readonly number[]): void {
    for (const partition of partitions)
      if (this.owners[partition] === member && this.targets[partition] !== member) this.owners[partition] = NOBODY;
    this.settle();
  }

  of(member: string): Assignment {
    const partitions: number[] = [];
    const revoked: number[] = [];
    this.owners.forEach((owner, partition) => {
      if (owner === member) (this.targets[partition] === member ? partitions : revoked).push(partition);
    });
    return { generation: this.generation, partitions, revoked };
  }

  /** Evenly, and everybody keeps what it has as far as that is even. */
  private rebalance(): void {
    this.generation += 1;
    const { members, targets } = this;
    const held = new Map<string, number[]>(members.map((member) => [member, []]));
    targets.forEach((target, partition) => held.get(target)?.push(partition));
    const inOrder = [...members].sort((a, b) => held.get(b)!.length - held.get(a)!.length || (a < b ? -1 : 1));
    const share = members.length === 0 ? 0 : Math.floor(targets.length / members.length);
    const extra = targets.length - share * members.length;
    targets.fill(NOBODY);
    inOrder.forEach((member, at) => {
      for (const partition of held.get(member)!.slice(0, share + (at < extra ? 1 : 0))) targets[partition] = member;
    });
    let free = 0;
    inOrder.forEach((member, at) => {
      const quota = share + (at < extra ? 1 : 0);
      for (let has = Math.min(held.get(member)!.length, quota); has < quota; has++) {
        while (targets[free] !== NOBODY) free += 1;
        targets[free] = member;
      }
    });
    this.settle();
  }

  /** What nobody reads goes to whom it is to go. */
  private settle(): void {
    this.owners = this.owners.map((owner, partition) => (owner === NOBODY ? this.targets[partition]! : owner));
  }
}

/** Shared by all streams without any; never written to. */
const NONE = new Map<string, Group>();

export class Groups {
  /** Most streams have none. */
  private groups: Map<string, Group> = NONE;

  get size(): number {
    return this.groups.size;
  }

  /** By name. */
  list(): { name: string; generation: number; members: readonly string[] }[] {
    return [...this.groups.keys()].sort().map((name) => {
      const { generation, members } = this.groups.get(name)!;
      return { name, generation, members };
    });
  }

  /** Each member with what it reads; undefined of a group that is not there. */
  describe(group: string): GroupDescription | undefined {
    const known = this.groups.get(group);
    if (known === undefined) return undefined;
    const { generation, members } = known;
    return { generation, members: members.map((name) => ({ name, ...known.of(name) })) };
  }

  /** Undefined when it is no member. */
  assignment(group: string, member: string): Assignment | undefined {
    const known = this.groups.get(group);
    return known?.members.includes(member) === true ? known.of(member) : undefined;
  }

  /** How many partitions the group knows of. */
  partitions(group: string): number {
    return this.groups.get(group)?.targets.length ?? 0;
  }

  /** Names of the members, ascending; none of a group that is not there. */
  members(group: string): readonly string[] {
    return this.groups.get(group)?.members ?? [];
  }

  operate(operation: GroupOperation): number {
    const known = this.groups.get(operation.group);
    if (operation.op === "join") return this.join(operation, known);
    if (known === undefined) return STREAM_GROUP_UNKNOWN;
    if (operation.op === "leave") known.leave(operation.member);
    else if (operation.op === "release") known.release(operation.member, operation.released);
    else if (known.members.length > 0) return STREAM_GROUP_IN_USE;
    else this.groups.delete(operation.group);
    return STREAM_OK;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.groups.size);
    for (const name of [...this.groups.keys()].sort()) {
      const { generation, owners, targets, members } = this.groups.get(name)!;
      writer.string(name).varint(generation).varint(members.length);
      for (const member of members) writer.string(member);
      const placeOf = (member: string): number => members.indexOf(member) + 1;
      writer.varint(targets.length);
      targets.forEach((target, partition) => writer.varint(placeOf(target)).varint(placeOf(owners[partition]!)));
    }
  }

  static read(reader: ByteReader): Groups {
    const groups = new Groups();
    let left = reader.varint();
    if (left > 0) groups.groups = new Map();
    for (; left > 0; left--) {
      const group = new Group();
      groups.groups.set(reader.string(), group);
      group.generation = reader.varint();
      group.members = Array.from({ length: count(reader, MEMBERS_PER_GROUP_MAX) }, () => reader.string());
      const memberAt = (place: number): string => (place === 0 ? NOBODY : (group.members[place - 1] ?? NOBODY));
      for (let partitions = reader.varint(); partitions > 0; partitions--) {
        group.targets.push(memberAt(reader.varint()));
        group.owners.push(memberAt(reader.varint()));
      }
    }
    return groups;
  }

  private join({ group, member, partitions }: Extract<GroupOperation, { op: "join" }>, known: Group | undefined): number {
    if (known === undefined && this.groups.size >= GROUPS_PER_TOPIC_MAX) return STREAM_TOO_MANY_CURSORS;
    if (known !== undefined && known.members.length >= MEMBERS_PER_GROUP_MAX && !known.members.includes(member))
      return STREAM_TOO_MANY_CURSORS;
    const joined = known ?? new Group();
    if (this.groups === NONE) this.groups = new Map();
    this.groups.set(group, joined);
    joined.join(member, partitions);
    return STREAM_OK;
  }
}

function count(reader: ByteReader, max: number): number {
  const value = reader.varint();
  if (value > max) throw new DecodeError(`${value} of at most ${max}`);
  return value;
}
