// What is in queues and work subscriptions, asked of those who lead them: counts, consumers, messages. Changes nothing.

import { BrokerError } from "../../base/errors.ts";
import { nodeOfGateway, type GroupId, type NodeId } from "../../base/ids.ts";
import { DELIVERY_BYTES_MAX, OFFSETS_GROUPS_MAX } from "../../base/limits.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import type { DeadReason } from "../../machine/work/state.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import { asBrokerError } from "../fetcher.ts";
import type { Serve } from "../forwarder.ts";
import type { Router } from "../router.ts";
import {
  decodeLeasesQuestion,
  decodeLooks,
  decodeLookQuestion,
  encodeLeases,
  encodeLooks,
  encodeLookQuestion,
  type Look,
  type LookQuestion,
} from "./codec.ts";
import { DEAD_REASONS } from "./dead-letters.ts";
import type { RunReader } from "./run-reader.ts";
import type { Browsed, BrowsePage } from "./types.ts";

export const OP_LOOK = 11;
const TRIES_MAX = 20;
const RETRY_MS = 20;

export type InspectorComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly router: Router;
  readonly reader: RunReader;
};

export class Inspector {
  private readonly components: InspectorComponents;

  constructor(components: InspectorComponents) {
    this.components = components;
  }

  /** For each group what its leader says; null where nobody leads it, or it has no such subscription. */
  async looks(question: LookQuestion, signal: AbortSignal): Promise<(Look | null)[]> {
    const { router } = this.components;
    const answers: (Look | null)[] = question.groups.map(() => null);
    const byNode = new Map<NodeId, number[]>();
    question.groups.forEach((group, at) => {
      const leader = router.leaderOf(group);
      if (leader === 0) return;
      const places = byNode.get(leader);
      if (places === undefined) byNode.set(leader, [at]);
      else places.push(at);
    });
    const part = async (node: NodeId, places: readonly number[]): Promise<void> => {
      for (let start = 0; start < places.length; start += OFFSETS_GROUPS_MAX) {
        const some = places.slice(start, start + OFFSETS_GROUPS_MAX);
        const found = await this.ask(node, { ...question, groups: some.map((at) => question.groups[at]!) }, signal);
        some.forEach((at, place) => (answers[at] = found[place] ?? null));
      }
    };
    await Promise.all([...byNode].map(([node, places]) => part(node, places)));
    return answers;
  }

  /** Of one group; waits for its leader, and rejects with BrokerError. */
  async look(group: GroupId, question: Omit<LookQuestion, "groups">, signal: AbortSignal): Promise<Look> {
    const { router } = this.components;
    for (let tries = 0; ; tries++) {
      await router.leader(group);
      const [look] = await this.looks({ ...question, groups: [group] }, signal);
      if (look !== null && look !== undefined) return look;
      if (tries === TRIES_MAX || signal.aborted)
        throw new BrokerError("NO_LEADER", "the queue has no leader at the moment, or is not there yet");
      await router.pause(RETRY_MS * (tries + 1));
    }
  }

  /** Waits until some of a backlog has been fed, or nobody waits for it any more: who then asks for what is there at once gets something. */
  async begun(group: GroupId, subscription: string, signal: AbortSignal): Promise<void> {
    const question = { subscription, withConsumers: false, browseFrom: 0, browseMax: 0 };
    let first = -1;
    while (!signal.aborted) {
      const { fedTo, endOffset, counts } = await this.look(group, question, signal);
      if (first < 0) first = fedTo;
      if (fedTo >= endOffset || fedTo > first || counts.ready > endOffset - fedTo) return;
      await this.components.router.pause(RETRY_MS);
    }
  }

  async browse(group: GroupId, subscription: string, from: number, max: number, signal: AbortSignal): Promise<BrowsePage> {
    const question = { subscription, withConsumers: false, browseFrom: from, browseMax: max };
    const { messages, endOffset } = await this.look(group, question, signal);
    const browsed: Browsed[] = [];
    let bytes = 0;
    let next = from;
    for (const info of messages) {
      const { state, deliveries, priority, untilMs, expiryMs, reason, run } = info;
      if (bytes >= DELIVERY_BYTES_MAX) return { messages: browsed, next };
      for (let at = run.from; at < run.end && bytes < DELIVERY_BYTES_MAX;) {
        const slices = await this.read(group, at, run.end, DELIVERY_BYTES_MAX - bytes, signal);
        for (const { from: first, end, timeMs, records } of slices) {
          const text = reason === 0 ? "" : DEAD_REASONS[reason as DeadReason];
          browsed.push({
            firstOffset: first,
            count: end - first,
            timeMs,
            records,
            state,
            deliveries,
            priority,
            untilMs,
            expiryMs,
            reason: text,
          });
          bytes += records.length;
          at = end;
        }
        // Settled since.
        if (slices.length === 0) at = run.end;
        next = at;
      }
    }
    return { messages: browsed, next: messages.length === 0 || next >= endOffset ? -1 : next };
  }

  readonly serveLook: Serve = (_from, body, reply) => {
    this.here(decodeLookQuestion(body)).then(
      (looks) => reply(null, [encodeLooks(looks)]),
      (error: unknown) => reply(asBrokerError(error), []),
    );
  };

  /** What a consumer holds: of a group led here, with all that was committed at the call. */
  readonly serveLeases: Serve = (_from, body, reply) => {
    const { group, subscription, consumer } = decodeLeasesQuestion(body);
    const { host } = this.components;
    host.readBarrier(group, (isLeader) => {
      const replica = host.get(group);
      if (!isLeader || replica === undefined) reply(new BrokerError("NOT_LEADER", "this node does not lead the queue"), []);
      else reply(null, [encodeLeases((replica.machine as StreamMachine).works.get(subscription)?.state.leasesOf(consumer) ?? [])]);
    });
  };

  private async read(group: GroupId, from: number, end: number, maxBytes: number, signal: AbortSignal): ReturnType<RunReader["read"]> {
    try {
      return await this.components.reader.read(group, from, end, maxBytes, signal);
    } catch (error) {
      if (asBrokerError(error).code === "OFFSET_OUT_OF_RANGE") return [];
      throw error;
    }
  }

  private async ask(node: NodeId, question: LookQuestion, signal: AbortSignal): Promise<(Look | null)[]> {
    const { nodeId, router } = this.components;
    if (node === nodeId) return this.here(question);
    try {
      return decodeLooks(await router.ask(node, OP_LOOK, [encodeLookQuestion(question)], signal));
    } catch (error) {
      asBrokerError(error);
      return question.groups.map(() => null);
    }
  }

  private here(question: LookQuestion): Promise<(Look | null)[]> {
    return Promise.all(question.groups.map((group) => this.lookAt(group, question)));
  }

  private lookAt(group: GroupId, { subscription, withConsumers, browseFrom, browseMax }: LookQuestion): Promise<Look | null> {
    const { host } = this.components;
    return new Promise((resolve) =>
      host.readBarrier(group, (isLeader) => {
        const machine = host.get(group)?.machine as StreamMachine | undefined;
        const work = isLeader ? machine?.works.get(subscription) : undefined;
        if (machine === undefined || work === undefined) {
          resolve(null);
          return;
        }
        const { state } = work;
        const { startOffset, endOffset, bytes } = machine;
        const consumers = !withConsumers
          ? []
          : [...state.consumers.all()].map(({ id, terms, credit, held }) => {
              const { priority, gateway } = terms;
              return { id, node: nodeOfGateway(gateway), priority, credit, held: held.size, active: state.consumers.activeId === id };
            });
        const messages = browseMax === 0 ? [] : state.describe(browseFrom, browseMax, endOffset);
        resolve({
          config: state.config,
          counts: state.countsTo(endOffset),
          fedTo: state.fedTo,
          lastUsedMs: state.lastUsedMs,
          startOffset,
          endOffset,
          bytes,
          consumers,
          messages,
        });
      }),
    );
  }
}
