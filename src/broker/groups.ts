// Consumer groups: the leader of a topic's first partition keeps them in its stream, hears from members now and then, and takes those that
// it no longer hears from for gone.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";
import { toGroupId, type GroupId, type NodeId } from "../base/ids.ts";
import { PARTITIONS_PER_TOPIC_MAX } from "../base/limits.ts";
import type { CatalogMachine, TopicRow } from "../machine/catalog/catalog.ts";
import { STREAM_OK, STREAM_TOO_MANY_CURSORS } from "../machine/stream/codes.ts";
import { encodeGroup } from "../machine/stream/commands.ts";
import type { GroupOperation } from "../machine/stream/group-operations.ts";
import type { Assignment, GroupDescription } from "../machine/stream/groups.ts";
import { quoted } from "../machine/names.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import { ENTRY_COMMAND } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { checkName } from "./admin.ts";
import { groupOf } from "./cluster-admin.ts";
import { asBrokerError } from "./fetcher.ts";
import type { Serve } from "./forwarder.ts";
import type { Router } from "./router.ts";
import type { GroupAssignment, GroupSync } from "./work/types.ts";

export const OP_SYNC = 12;
export const OP_GROUP = 13;
/** A member that is not heard of for so long is gone. */
export const SESSION_MS = 10_000;
const TRIES_MAX = 20;
const RETRY_MS = 20;

export type GroupsComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly clock: Clock;
  readonly existing: (vhost: string, topic: string) => TopicRow;
};

type Sync = { readonly group: string; readonly member: string; readonly released: readonly number[]; readonly leaves: boolean };

export class Groups {
  private readonly components: GroupsComponents;
  /** When a member was heard of last, by stream, group and member; of groups led here. */
  private readonly heardMs = new Map<GroupId, Map<string, number>>();

  constructor(components: GroupsComponents) {
    this.components = components;
  }

  async sync(call: GroupSync & { readonly released: readonly number[] }, signal: AbortSignal): Promise<GroupAssignment> {
    const assignment = await this.ask(call, { ...call, leaves: false }, signal);
    return { ...assignment, sessionMs: SESSION_MS };
  }

  async leave(call: GroupSync, signal: AbortSignal): Promise<void> {
    await this.ask(call, { ...call, released: [], leaves: true }, signal);
  }

  /** Rejects with UNKNOWN_SUBSCRIPTION when there is no such group. */
  async describe({ vhost, topic, name }: { vhost: string; topic: string; name: string }, signal: AbortSignal): Promise<GroupDescription> {
    checkName("group", name);
    const group = groupOf(this.components.existing(vhost, topic), 0);
    const found = await this.led(
      group,
      () => this.lookHere(group, name),
      async (leader) => decodeDescription(await this.components.router.ask(leader, OP_GROUP, [encodeLook(group, name)], signal)),
      signal,
    );
    if (found === undefined) throw new BrokerError("UNKNOWN_SUBSCRIPTION", `topic ${topic} has no consumer group ${quoted(name)}`);
    return found;
  }

  /** Members of the groups led here that are not heard of any more leave; once a second. */
  upkeep(): void {
    const { host, clock } = this.components;
    const nowMs = clock.monotonicMs();
    const led = new Set<GroupId>();
    for (const replica of host.groups()) {
      if (!replica.isLeader || replica.descriptor.kind !== "stream") continue;
      const { groups } = replica.machine as StreamMachine;
      if (groups.size === 0) continue;
      led.add(replica.group);
      const before = this.heardMs.get(replica.group);
      // Made anew: nothing is kept of who left by itself.
      const heard = new Map<string, number>();
      this.heardMs.set(replica.group, heard);
      for (const { name, members } of groups.list())
        for (const member of members) {
          const key = `${name}\0${member}`;
          // Whoever has just begun to lead has heard of nobody yet.
          const lastMs = before?.get(key) ?? nowMs;
          if (nowMs - lastMs < SESSION_MS) heard.set(key, lastMs);
          else host.propose(replica.group, ENTRY_COMMAND, encodeGroup({ op: "leave", group: name, member }), () => {});
        }
    }
    for (const group of this.heardMs.keys()) if (!led.has(group)) this.heardMs.delete(group);
  }

  readonly serveSync: Serve = (_from, body, reply) => {
    const { group, sync } = decodeSync(body);
    this.here(group, sync).then(
      (assignment) => reply(null, [encodeAssignment(assignment)]),
      (error: unknown) => reply(asBrokerError(error), []),
    );
  };

  readonly serveLook: Serve = (_from, body, reply) => {
    const reader = new ByteReader(body);
    this.lookHere(toGroupId(reader.u32()), reader.string()).then(
      (found) => reply(null, [encodeDescription(found)]),
      (error: unknown) => reply(asBrokerError(error), []),
    );
  };

  private async lookHere(group: GroupId, name: string): Promise<GroupDescription | undefined> {
    this.machineOf(group);
    await this.barrier(group);
    return this.machineOf(group).groups.describe(name);
  }

  private async ask({ vhost, topic }: GroupSync, sync: Sync, signal: AbortSignal): Promise<Assignment> {
    const { router, existing } = this.components;
    checkName("group", sync.group);
    checkName("member", sync.member);
    const group = groupOf(existing(vhost, topic), 0);
    return this.led(
      group,
      () => this.here(group, sync),
      async (leader) => decodeAssignment(await router.ask(leader, OP_SYNC, [encodeSync(group, sync)], signal)),
      signal,
    );
  }

  /** Asks whoever leads the group; saying anything twice is as good as once. */
  private async led<Answer>(
    group: GroupId,
    here: () => Promise<Answer>,
    there: (leader: NodeId) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { nodeId, router } = this.components;
    for (let tries = 0; ; tries++) {
      const leader = await router.leader(group);
      try {
        return await (leader === nodeId ? here() : there(leader));
      } catch (error) {
        if (!asBrokerError(error).retryable || tries === TRIES_MAX || signal.aborted) throw error;
      }
      await router.pause(RETRY_MS * (tries + 1));
    }
  }

  private async here(group: GroupId, { group: name, member, released, leaves }: Sync): Promise<Assignment> {
    const { catalog, clock } = this.components;
    const machine = this.machineOf(group);
    const partitions = catalog.group(group)?.topic.partitions.length ?? 0;
    if (leaves) {
      await this.propose(group, { op: "leave", group: name, member });
      return { generation: 0, partitions: [], revoked: [] };
    }
    let heard = this.heardMs.get(group);
    if (heard === undefined) this.heardMs.set(group, (heard = new Map()));
    heard.set(`${name}\0${member}`, clock.monotonicMs());
    const known = machine.groups.assignment(name, member);
    if (known === undefined || machine.groups.partitions(name) < partitions)
      await this.propose(group, { op: "join", group: name, member, partitions });
    if (released.length > 0) await this.propose(group, { op: "release", group: name, member, released });
    else await this.barrier(group);
    const assignment = this.machineOf(group).groups.assignment(name, member);
    if (assignment === undefined)
      throw new BrokerError("CONFLICT", "the member was taken for gone meanwhile; it joins again with the next call");
    return assignment;
  }

  private machineOf(group: GroupId): StreamMachine {
    const replica = this.components.host.get(group);
    if (replica === undefined || !replica.isLeader)
      throw new BrokerError("NO_LEADER", "this node does not lead the topic's first partition");
    return replica.machine as StreamMachine;
  }

  private propose(group: GroupId, operation: GroupOperation): Promise<void> {
    return new Promise((resolve, reject) =>
      this.components.host.propose(group, ENTRY_COMMAND, encodeGroup(operation), (code) => {
        if (code === STREAM_TOO_MANY_CURSORS) reject(new BrokerError("TOO_MANY", "there are as many groups or members as there can be"));
        else if (code < STREAM_OK) reject(new BrokerError("NO_LEADER", "the topic's first partition is led by another node by now"));
        else resolve();
      }),
    );
  }

  /** One that was a leader and is none any more must not tell an old assignment. */
  private barrier(group: GroupId): Promise<void> {
    return new Promise((resolve, reject) =>
      this.components.host.readBarrier(group, (isLeader) => {
        if (isLeader) resolve();
        else reject(new BrokerError("NO_LEADER", "the topic's first partition is led by another node by now"));
      }),
    );
  }
}

function encodeSync(group: GroupId, { group: name, member, released, leaves }: Sync): Uint8Array {
  const writer = new ByteWriter(64).u32(group).string(name).string(member);
  writer.u8(leaves ? 1 : 0).varint(released.length);
  for (const partition of released) writer.varint(partition);
  return writer.finish();
}

function decodeSync(body: Uint8Array): { group: GroupId; sync: Sync } {
  const reader = new ByteReader(body);
  const [group, name, member, leaves] = [toGroupId(reader.u32()), reader.string(), reader.string(), reader.u8() === 1];
  const released = Array.from({ length: Math.min(reader.varint(), PARTITIONS_PER_TOPIC_MAX) }, () => reader.varint());
  return { group, sync: { group: name, member, released, leaves } };
}

function encodeLook(group: GroupId, name: string): Uint8Array {
  return new ByteWriter(64).u32(group).string(name).finish();
}

function encodeDescription(found: GroupDescription | undefined): Uint8Array {
  const writer = new ByteWriter(256).u8(found === undefined ? 0 : 1);
  if (found === undefined) return writer.finish();
  writer.varint(found.generation).varint(found.members.length);
  for (const { name, partitions, revoked } of found.members) {
    writer.string(name);
    for (const list of [partitions, revoked]) writeList(writer, list);
  }
  return writer.finish();
}

function decodeDescription(body: Uint8Array): GroupDescription | undefined {
  const reader = new ByteReader(body);
  if (reader.u8() === 0) return undefined;
  const generation = reader.varint();
  const members = Array.from({ length: reader.varint() }, () => ({
    name: reader.string(),
    partitions: readList(reader),
    revoked: readList(reader),
  }));
  return { generation, members };
}

function writeList(writer: ByteWriter, list: readonly number[]): void {
  writer.varint(list.length);
  for (const partition of list) writer.varint(partition);
}

function readList(reader: ByteReader): number[] {
  return Array.from({ length: reader.varint() }, () => reader.varint());
}

function encodeAssignment({ generation, partitions, revoked }: Assignment): Uint8Array {
  const writer = new ByteWriter(64).varint(generation);
  for (const list of [partitions, revoked]) writeList(writer, list);
  return writer.finish();
}

function decodeAssignment(body: Uint8Array): Assignment {
  const reader = new ByteReader(body);
  const generation = reader.varint();
  return { generation, partitions: readList(reader), revoked: readList(reader) };
}
