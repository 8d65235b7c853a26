// Fetch and offsets over partitions that may be led by different nodes: each node is asked once, the answers are put
// back in the order of the question.

import { BrokerError } from "../base/errors.ts";
import { FETCH_BYTES_MAX, OFFSETS_GROUPS_BY_TIME_MAX, OFFSETS_GROUPS_MAX } from "../base/limits.ts";
import type { Pacer } from "../base/pacer.ts";
import type { GroupId, NodeId } from "../base/ids.ts";
import {
  decodeFetch,
  decodeFetched,
  decodeOffsets,
  decodeOffsetsAnswer,
  encodeFetch,
  encodeFetched,
  encodeOffsets,
  encodeOffsetsAnswer,
  type OffsetsBody,
} from "./forward-codec.ts";
import type { Serve } from "./forwarder.ts";
import { callerLeft, fetchedBytes, type GroupFetch, type GroupFetched, type GroupOffsets, type LocalGroups } from "./local-groups.ts";
import type { Router } from "./router.ts";
import { FROM_OFFSET } from "./types.ts";
import { callController } from "./wait-until.ts";

export const OP_FETCH = 2;
export const OP_OFFSETS = 3;
/** How often a part whose leader moved is sent again. */
const TRIES_MAX = 20;

export class Fetcher {
  private readonly nodeId: NodeId;
  private readonly router: Router;
  private readonly local: LocalGroups;
  private readonly pacer: Pacer;
  private nextFirst = 0;

  constructor(nodeId: NodeId, router: Router, local: LocalGroups, pacer: Pacer) {
    this.nodeId = nodeId;
    this.router = router;
    this.local = local;
    this.pacer = pacer;
  }

  async fetch(
    fetches: readonly GroupFetch[],
    options: { maxBytes: number; maxWaitMs: number; direct: boolean },
    signal: AbortSignal,
  ): Promise<GroupFetched[]> {
    return this.cut(fetches, await this.fetchAll(fetches, options, signal));
  }

  /** Each node sends one batch at least, so several can be more than an answer may have: then some wait for the next fetch. */
  private cut(fetches: readonly GroupFetch[], fetched: GroupFetched[]): GroupFetched[] {
    let left = FETCH_BYTES_MAX;
    // Not always the same ones.
    const first = (this.nextFirst = (this.nextFirst + 1) % fetched.length);
    for (let count = 0; count < fetched.length; count++) {
      const at = (first + count) % fetched.length;
      const part = fetched[at]!;
      const bytes = fetchedBytes(part);
      if (part.batches.length > 0 && bytes > left && left < FETCH_BYTES_MAX) {
        const { from, value } = fetches[at]!;
        fetched[at] = { ...part, batches: [], nextOffset: from === FROM_OFFSET ? value : part.batches[0]!.baseOffset };
      } else left -= bytes;
    }
    return fetched;
  }

  private async fetchAll(
    fetches: readonly GroupFetch[],
    options: { maxBytes: number; maxWaitMs: number; direct: boolean },
    signal: AbortSignal,
  ): Promise<GroupFetched[]> {
    const { maxBytes, maxWaitMs, direct } = options;
    const byNode = await this.byLeader(
      fetches.map(({ group }) => group),
      direct,
    );
    const parts = [...byNode.keys()];
    if (parts.length === 1 || maxWaitMs === 0)
      return this.gather(fetches, byNode, Math.floor(maxBytes / Math.max(parts.length, 1)), maxWaitMs, direct, signal);
    // Several nodes: first look everywhere, then wait everywhere and take whoever has something first.
    const share = Math.floor(maxBytes / parts.length);
    const now = await this.gather(fetches, byNode, share, 0, direct, signal);
    if (now.some((part) => part.batches.length > 0 || part.error !== null)) return now;
    const enough = callController();
    const left = (): void => enough.abort();
    signal.addEventListener("abort", left, { once: true });
    const positions = now.map((part, at) => ({ group: fetches[at]!.group, from: 0 as const, value: part.nextOffset }));
    try {
      return await firstNews(
        now,
        parts.map(async (node) => {
          const places = byNode.get(node)!;
          const fetched = await this.fetchFrom(
            node,
            places.map((at) => positions[at]!),
            share,
            maxWaitMs,
            enough.signal,
          );
          return { places, fetched };
        }),
      );
    } finally {
      signal.removeEventListener("abort", left);
      enough.abort();
    }
  }

  /** Asks all leaders at the same time, each about a few groups after the other: a topic may have a thousand partitions. */
  async offsets(question: OffsetsBody, direct: boolean, signal: AbortSignal): Promise<GroupOffsets[]> {
    const { groups, timeMs } = question;
    const answers: GroupOffsets[] = [];
    const step = timeMs < 0 ? OFFSETS_GROUPS_MAX : OFFSETS_GROUPS_BY_TIME_MAX;
    const part = async (node: NodeId, places: readonly number[]): Promise<void> => {
      for (let start = 0; start < places.length; start += step) {
        const turn = this.pacer.turn();
        if (turn !== null) await turn;
        if (signal.aborted) throw callerLeft();
        const some = places.slice(start, start + step);
        const body = { ...question, groups: some.map((at) => groups[at]!) };
        const found = await this.offsetsFrom(node, body, signal);
        await Promise.all(some.map(async (at, place) => (answers[at] = await this.settled(body, place, found[place]!, direct, signal))));
      }
    };
    await Promise.all([...(await this.byLeader(groups, direct))].map(([node, places]) => part(node, places)));
    return answers;
  }

  /** The answer for one group of a question, asked again while its leader moves. */
  private async settled(
    question: OffsetsBody,
    place: number,
    first: GroupOffsets,
    direct: boolean,
    signal: AbortSignal,
  ): Promise<GroupOffsets> {
    const group = question.groups[place]!;
    let answer = first;
    for (let tries = 1; !direct && tries < TRIES_MAX && answer.error !== null && isMoved(answer.error); tries++) {
      await this.pause(tries, signal);
      answer = (await this.offsetsFrom(await this.router.leader(group), { ...question, groups: [group] }, signal))[0]!;
    }
    return answer;
  }

  readonly serveFetch: Serve = (_from, body, reply, signal) => {
    const { fetches, maxBytes, maxWaitMs } = decodeFetch(body);
    this.local.fetch(fetches, maxBytes, maxWaitMs, signal).then(
      (fetched) => reply(null, encodeFetched(fetched)),
      (error: unknown) => reply(asBrokerError(error), []),
    );
  };

  readonly serveOffsets: Serve = (_from, body, reply) => {
    this.local.offsets(decodeOffsets(body)).then(
      (answers) => reply(null, [encodeOffsetsAnswer(answers)]),
      (error: unknown) => reply(asBrokerError(error), []),
    );
  };

  /** Which places of the question each node answers. */
  private async byLeader(groups: readonly GroupId[], direct: boolean): Promise<Map<NodeId, number[]>> {
    const byNode = new Map<NodeId, number[]>();
    const leaders = direct ? groups.map(() => this.nodeId) : await Promise.all(groups.map((group) => this.router.leader(group)));
    leaders.forEach((leader, at) => {
      const places = byNode.get(leader);
      if (places === undefined) byNode.set(leader, [at]);
      else places.push(at);
    });
    return byNode;
  }

  private async gather(
    fetches: readonly GroupFetch[],
    byNode: Map<NodeId, number[]>,
    share: number,
    maxWaitMs: number,
    direct: boolean,
    signal: AbortSignal,
  ): Promise<GroupFetched[]> {
    const answer: GroupFetched[] = [];
    const part = async (node: NodeId, places: readonly number[]): Promise<void> => {
      const fetched = await this.fetchFrom(
        node,
        places.map((at) => fetches[at]!),
        share,
        maxWaitMs,
        signal,
      );
      await Promise.all(
        places.map(async (at, place) => {
          let result = fetched[place]!;
          for (let tries = 1; !direct && result.error !== null && isMoved(result.error) && tries <= TRIES_MAX; tries++) {
            await this.pause(tries, signal);
            const leader = await this.router.leader(fetches[at]!.group);
            result = (await this.fetchFrom(leader, [fetches[at]!], share, 0, signal))[0]!;
          }
          answer[at] = result;
        }),
      );
    };
    await Promise.all([...byNode].map(([node, places]) => part(node, places)));
    return answer;
  }

  private async fetchFrom(
    node: NodeId,
    fetches: readonly GroupFetch[],
    maxBytes: number,
    maxWaitMs: number,
    signal: AbortSignal,
  ): Promise<GroupFetched[]> {
    if (node === this.nodeId) return this.local.fetch(fetches, maxBytes, maxWaitMs, signal);
    try {
      return decodeFetched(await this.router.ask(node, OP_FETCH, [encodeFetch({ fetches, maxBytes, maxWaitMs })], signal));
    } catch (error) {
      const failure = asBrokerError(error);
      return fetches.map(() => ({ batches: [], startOffset: 0, endOffset: 0, nextOffset: 0, error: failure }));
    }
  }

  private async offsetsFrom(node: NodeId, body: OffsetsBody, signal: AbortSignal): Promise<GroupOffsets[]> {
    if (node === this.nodeId) return this.local.offsets(body);
    try {
      return decodeOffsetsAnswer(await this.router.ask(node, OP_OFFSETS, [encodeOffsets(body)], signal));
    } catch (error) {
      const failure = asBrokerError(error);
      return body.groups.map(() => ({
        startOffset: 0,
        endOffset: 0,
        bytes: 0,
        committedOffset: -1,
        metadata: "",
        timeOffset: -1,
        cursors: [],
        error: failure,
      }));
    }
  }

  private pause(tries: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw callerLeft();
    return this.router.pause(Math.min(10 * tries, 200));
  }
}

type NodePart = { readonly places: readonly number[]; readonly fetched: readonly GroupFetched[] };

/** Resolves as soon as one node has records or an error, or all have answered; later answers are dropped. */
function firstNews(now: readonly GroupFetched[], parts: readonly Promise<NodePart>[]): Promise<GroupFetched[]> {
  return new Promise((resolve, reject) => {
    const answer = [...now];
    let left = parts.length;
    for (const part of parts) {
      part.then(({ places, fetched }) => {
        places.forEach((at, place) => (answer[at] = fetched[place]!));
        left -= 1;
        if (left === 0 || fetched.some((one) => one.batches.length > 0 || one.error !== null)) resolve(answer);
      }, reject);
    }
  });
}

/** Reads may be tried again whatever became of the first try. */
function isMoved(error: BrokerError): boolean {
  return error.code === "NOT_LEADER" || error.code === "NO_LEADER" || error.code === "NODE_UNREACHABLE" || error.code === "LEADER_CHANGED";
}

export function asBrokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  throw error;
}
