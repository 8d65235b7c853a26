// Fetch and offsets over several nodes: an answer that fits whatever they send, and questions of a few groups each.

import { expect, test } from "vitest";
import { FETCH_BYTES_MAX, OFFSETS_GROUPS_MAX } from "../../src/base/limits.ts";
import type { GroupId, NodeId } from "../../src/base/ids.ts";
import { Pacer } from "../../src/base/pacer.ts";
import { Fetcher, OP_OFFSETS } from "../../src/broker/fetcher.ts";
import { decodeFetch, decodeOffsets, encodeFetched, encodeOffsetsAnswer } from "../../src/broker/forward-codec.ts";
import type { GroupFetched, GroupOffsets, LocalGroups } from "../../src/broker/local-groups.ts";
import type { Router } from "../../src/broker/router.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const MEGABYTE = 1024 * 1024;

/** Every group is led by a node of its own (its number), none of them this one. */
function fetcher(fetched: (group: GroupId) => GroupFetched, asked: number[] = []): Fetcher {
  const offsets = (group: GroupId): GroupOffsets => ({
    ...{ startOffset: group, endOffset: 1_000, bytes: 0, committedOffset: -1, metadata: "", timeOffset: -1, cursors: [], error: null },
  });
  const join = (parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);
  const router = {
    leader: (group: GroupId) => Promise.resolve(((group % 3) + 1) as NodeId),
    ask: (_node: NodeId, operation: number, parts: readonly Uint8Array[]): Promise<Uint8Array> => {
      const body = join(parts);
      if (operation !== OP_OFFSETS)
        return Promise.resolve(join(encodeFetched(decodeFetch(body).fetches.map(({ group }) => fetched(group)))));
      const { groups } = decodeOffsets(body);
      asked.push(groups.length);
      return Promise.resolve(encodeOffsetsAnswer(groups.map(offsets)));
    },
  };
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, new FakeLoop());
  return new Fetcher(99 as NodeId, router as unknown as Router, null as unknown as LocalGroups, pacer);
}

const signal = new AbortController().signal;

test("fetch: three nodes that send a large batch each make an answer that fits, and every partition has its turn", async () => {
  const part = (): GroupFetched => ({
    batches: [{ baseOffset: 5, count: 10, timeMs: 1, records: new Uint8Array(3 * MEGABYTE) }],
    ...{ startOffset: 0, endOffset: 1_000, nextOffset: 15, error: null },
  });
  const subject = fetcher(part);
  const fetches = [1, 2, 3].map((group) => ({ group: group as GroupId, from: 0 as const, value: 7 }));
  const served = new Set<number>();
  for (let round = 0; round < 3; round++) {
    const answer = await subject.fetch(fetches, { maxBytes: FETCH_BYTES_MAX, maxWaitMs: 0, direct: false }, signal);
    let bytes = 0;
    for (const [at, { batches, nextOffset }] of answer.entries()) {
      for (const { records } of batches) bytes += records.length;
      if (batches.length > 0) served.add(at);
      // Whoever is left out goes on where it asked, not where its batch would have ended.
      expect(nextOffset).toBe(batches.length > 0 ? 15 : 7);
    }
    expect(bytes).toBeGreaterThan(0);
    expect(bytes).toBeLessThanOrEqual(FETCH_BYTES_MAX);
  }
  expect(served).toEqual(new Set([0, 1, 2]));
});

test("offsets: a node is asked about a few groups at a time, and the answers keep the order of the question", async () => {
  const asked: number[] = [];
  const groups = Array.from({ length: 1_000 }, (_, at) => (at + 1) as GroupId);
  const question = { groups, subscription: "", timeMs: -1, cursorsAfter: "", cursorsMax: 0 };
  const answers = await fetcher(() => expect.unreachable("nothing is fetched"), asked).offsets(question, false, signal);
  expect(answers.map(({ startOffset }) => startOffset)).toEqual(groups);
  expect(Math.max(...asked)).toBe(OFFSETS_GROUPS_MAX);
  expect(asked.length).toBeLessThan(20);
});

test("offsets: nobody is asked on behalf of a caller who is gone", async () => {
  const asked: number[] = [];
  const groups = Array.from({ length: 1_000 }, (_, at) => (at + 1) as GroupId);
  const question = { groups, subscription: "", timeMs: -1, cursorsAfter: "", cursorsMax: 0 };
  const subject = fetcher(() => expect.unreachable("nothing is fetched"), asked);
  await expect(subject.offsets(question, false, AbortSignal.abort())).rejects.toMatchObject({ code: "TIMEOUT" });
  expect(asked).toEqual([]);
});
