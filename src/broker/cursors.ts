// The committed offsets of a topic's subscriptions, over all its partitions: committed, read, listed, deleted.

import { BrokerError } from "../base/errors.ts";
import type { GroupId } from "../base/ids.ts";
import { COMMIT_METADATA_LENGTH_MAX, CURSORS_PER_STREAM_MAX, REQUEST_PARTITIONS_MAX } from "../base/limits.ts";
import type { Pacer } from "../base/pacer.ts";
import type { TopicRow } from "../machine/catalog/catalog.ts";
import { encodeCommitOffset, encodeDeleteCursor, encodeGroup } from "../machine/stream/commands.ts";
import {
  STREAM_FENCED,
  STREAM_GROUP_IN_USE,
  STREAM_GROUP_UNKNOWN,
  STREAM_OFFSET_OUT_OF_RANGE,
  STREAM_OK,
  STREAM_TOO_MANY_CURSORS,
  STREAM_WOULD_GO_BACK,
} from "../machine/stream/codes.ts";
import { ENTRY_COMMAND } from "../raft/types.ts";
import { checkName } from "./admin.ts";
import { groupOf } from "./cluster-admin.ts";
import { asBrokerError, type Fetcher } from "./fetcher.ts";
import type { Router } from "./router.ts";
import { subscriptionPage, subscriptionsPerPage } from "./subscriptions.ts";
import type * as types from "./types.ts";

/** Offsets that are committed in one go. */
const COMMITS_PER_STEP = 64;
/** Asks where partitions begin and end, and for nothing else. */
export const POSITIONS = { subscription: "", timeMs: -1, cursorsAfter: "", cursorsMax: 0 };

export type CursorsComponents = {
  readonly router: Router;
  readonly fetcher: Fetcher;
  readonly pacer: Pacer;
  /** Throws UNKNOWN_TOPIC. */
  readonly existing: (vhost: string, topic: string) => TopicRow;
};

export class Cursors {
  private readonly components: CursorsComponents;

  constructor(components: CursorsComponents) {
    this.components = components;
  }

  async commit(call: Parameters<types.Broker["commitOffsets"]>[0], signal: AbortSignal): Promise<readonly types.PartitionOutcome[]> {
    const topic = this.components.existing(call.vhost, call.topic);
    checkName("subscription", call.subscription);
    if (call.offsets.length === 0 || call.offsets.length > REQUEST_PARTITIONS_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `offsets must name 1..${REQUEST_PARTITIONS_MAX} partitions, not ${call.offsets.length}`);
    }
    const groups = call.offsets.map(({ partition }) => groupOf(topic, partition));
    const errors: Promise<BrokerError | null>[] = [];
    for (const [at, commit] of call.offsets.entries()) {
      if (at > 0 && at % COMMITS_PER_STEP === 0) await this.components.pacer.turn();
      if (signal.aborted) break;
      errors.push(this.commitOne(groups[at]!, call, commit, signal));
    }
    if (errors.length < groups.length) throw new BrokerError("TIMEOUT", "the deadline passed before all offsets were sent on");
    return (await Promise.all(errors)).map((error, at) => ({ partition: call.offsets[at]!.partition, error }));
  }

  async get(
    call: { vhost: string; topic: string; subscription: string; partitions: readonly number[]; timeMs: number; direct: boolean },
    signal: AbortSignal,
  ): Promise<readonly types.PartitionOffsets[]> {
    const topic = this.components.existing(call.vhost, call.topic);
    if (call.partitions.length > REQUEST_PARTITIONS_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `partitions must name at most ${REQUEST_PARTITIONS_MAX}, not ${call.partitions.length}`);
    }
    const partitions = call.partitions.length > 0 ? call.partitions : topic.partitions.map((_, partition) => partition);
    const groups = partitions.map((partition) => groupOf(topic, partition));
    const { subscription, timeMs, direct } = call;
    const answers = await this.components.fetcher.offsets({ ...POSITIONS, groups, subscription, timeMs }, direct, signal);
    return answers.map((answer, at) => ({ partition: partitions[at]!, ...answer }));
  }

  async list(call: types.ListSubscriptionsCall, signal: AbortSignal): Promise<types.SubscriptionPage> {
    const topic = this.components.existing(call.vhost, call.topic);
    const groups = topic.partitions.map(({ group }) => group);
    const namesMax = subscriptionsPerPage(groups.length, call.namesMax);
    const offsets = await this.components.fetcher.offsets(
      { ...POSITIONS, groups, cursorsAfter: call.after, cursorsMax: namesMax },
      false,
      signal,
    );
    return subscriptionPage(offsets, namesMax);
  }

  async delete(vhost: string, topicName: string, name: string, signal: AbortSignal): Promise<void> {
    checkName("subscription", name);
    const groups = this.components.existing(vhost, topicName).partitions.map(({ group }) => group);
    const offsets = await this.components.fetcher.offsets({ ...POSITIONS, groups, subscription: name }, false, signal);
    const failed = offsets.find(({ error }) => error !== null);
    if (failed !== undefined) throw failed.error!;
    const known = groups.filter((_, partition) => offsets[partition]!.committedOffset >= 0);
    // A group of that name goes too: there are only so many, and nobody else would ever take it away.
    const code = await this.command(groups[0]!, encodeGroup({ op: "delete", group: name }), false, signal);
    if (code === STREAM_GROUP_IN_USE) throw new BrokerError("CONFLICT", `group ${name} has members; they are to leave first`);
    if (known.length === 0 && code === STREAM_GROUP_UNKNOWN)
      throw new BrokerError("UNKNOWN_SUBSCRIPTION", `no offset was ever committed under ${JSON.stringify(name)}`);
    await Promise.all(known.map((group) => this.command(group, encodeDeleteCursor(name), false, signal)));
  }

  private async commitOne(
    group: GroupId,
    { subscription, generation, direct }: Parameters<types.Broker["commitOffsets"]>[0],
    commit: types.OffsetCommit,
    signal: AbortSignal,
  ): Promise<BrokerError | null> {
    if (commit.metadata.length > COMMIT_METADATA_LENGTH_MAX)
      return new BrokerError(
        "INVALID_ARGUMENT",
        `metadata has ${commit.metadata.length} characters, ${COMMIT_METADATA_LENGTH_MAX} are allowed`,
      );
    try {
      const code = await this.command(
        group,
        encodeCommitOffset({ subscription, offset: commit.offset, metadata: commit.metadata, reset: commit.reset, generation }),
        direct,
        signal,
      );
      switch (code) {
        case STREAM_OK:
          return null;
        case STREAM_OFFSET_OUT_OF_RANGE:
          return new BrokerError("OFFSET_OUT_OF_RANGE", `offset ${commit.offset} is past the end of the partition`);
        case STREAM_WOULD_GO_BACK:
          return new BrokerError(
            "OFFSET_WOULD_GO_BACK",
            `an offset later than ${commit.offset} is committed already; set reset to go back`,
          );
        case STREAM_FENCED:
          return new BrokerError("FENCED_MEMBER", "a member of a later generation of the group reads the partition");
        case STREAM_TOO_MANY_CURSORS:
          return new BrokerError(
            "TOO_MANY",
            `the partition holds ${CURSORS_PER_STREAM_MAX} subscriptions, and no more; delete unused ones`,
          );
        default:
          return new BrokerError("INTERNAL", `unknown reply ${code} of the stream`);
      }
    } catch (error) {
      return asBrokerError(error);
    }
  }

  private command(group: GroupId, command: Uint8Array, direct: boolean, signal: AbortSignal): Promise<number> {
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(new BrokerError("TIMEOUT", "the deadline passed before the partition answered; it may still be carried out"));
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener("abort", abort, { once: true });
      this.components.router.propose(group, ENTRY_COMMAND, command, direct, (error, code) => {
        signal.removeEventListener("abort", abort);
        if (error === null) resolve(code);
        else reject(error);
      });
    });
  }
}
