// News of commits goes along with what is sent anyway.

import { expect, test } from "vitest";
import { CATALOG_GROUP, replicaId, toNodeId, type GroupId } from "../../src/base/ids.ts";
import { decodeRaftFrame } from "../../src/peer/frames.ts";
import type { PeerTransport } from "../../src/peer/transport.ts";
import { Message, MSG_APPEND, MSG_HEARTBEAT } from "../../src/raft/types.ts";
import { Outbox } from "../../src/replica/outbox.ts";

const [A, B] = [toNodeId(2), toNodeId(3)];
const [FIRST, SECOND] = [1 as GroupId, 2 as GroupId];

class Bench {
  /** What was sent to each node: by frame, the group, kind and commit index of each message. */
  readonly sent: { to: number; messages: string[] }[] = [];
  isReachable = true;
  readonly unreachable: number[] = [];
  readonly outbox: Outbox;

  constructor() {
    const transport = {
      send: (to: number, _lane: number, parts: readonly Uint8Array[]) => {
        if (!this.isReachable) return false;
        const messages: string[] = [];
        decodeRaftFrame(Buffer.concat(parts), (group, { kind, commit }) =>
          messages.push(`${group} ${kind === MSG_APPEND ? "append" : "heartbeat"} ${commit}`),
        );
        this.sent.push({ to, messages });
        return true;
      },
    } as unknown as PeerTransport;
    this.outbox = new Outbox(transport, (group) => this.unreachable.push(group));
  }

  append(node: typeof A, group: GroupId, { commit = 0, entries = 0, life = 0, nowMs = 0 } = {}): void {
    const message = new Message(MSG_APPEND, replicaId(toNodeId(1), 0), replicaId(node, life), 1);
    Object.assign(message, { index: 10, lastEntry: 10 + entries, commit, entries: entries === 0 ? null : [] });
    this.outbox.add(node, group, message, nowMs);
  }

  heartbeat(node: typeof A, group: GroupId): void {
    this.outbox.add(node, group, new Message(MSG_HEARTBEAT, replicaId(toNodeId(1), 0), replicaId(node, 0), 1), 0);
  }
}

test("outbox: news of a commit waits, and goes along with the next frame to its node", () => {
  const bench = new Bench();
  bench.append(A, FIRST, { commit: 4, nowMs: 100 });
  bench.append(B, FIRST, { commit: 4, nowMs: 101 });
  bench.outbox.flush(false);
  expect(bench.sent).toEqual([]);
  expect(bench.outbox.newsWaits(103)).toBe(3);
  bench.heartbeat(A, SECOND);
  bench.outbox.flush(false);
  expect(bench.sent).toEqual([{ to: A, messages: ["2 heartbeat 0", "1 append 4"] }]);
  bench.outbox.flush(true);
  expect(bench.sent.slice(1)).toEqual([{ to: B, messages: ["1 append 4"] }]);
  expect(bench.outbox.newsWaits(110)).toBe(-1);
  bench.outbox.flush(true);
  expect(bench.sent).toHaveLength(2);
});

test("outbox: the newest news of a group counts, and none beside entries, which say the same", () => {
  const bench = new Bench();
  bench.append(A, FIRST, { commit: 4 });
  bench.append(A, FIRST, { commit: 5 });
  bench.append(A, SECOND, { commit: 7 });
  bench.append(A, SECOND, { commit: 8, entries: 1 });
  bench.outbox.flush(false);
  expect(bench.sent).toEqual([{ to: A, messages: ["2 append 8", "1 append 5"] }]);
});

test("outbox: what is meant for one life of a replica is not taken back by what is said to another", () => {
  const bench = new Bench();
  bench.append(A, FIRST, { commit: 4 });
  bench.append(A, FIRST, { commit: 5, life: 1 });
  bench.outbox.flush(true);
  expect(bench.sent).toEqual([{ to: A, messages: ["1 append 4", "1 append 5"] }]);
});

test("outbox: news of the catalog does not wait; a node that takes nothing is unreachable to all groups of its frame", () => {
  const bench = new Bench();
  bench.append(A, CATALOG_GROUP, { commit: 4 });
  bench.outbox.flush(false);
  expect(bench.sent).toEqual([{ to: A, messages: [`${CATALOG_GROUP} append 4`] }]);
  bench.isReachable = false;
  bench.append(A, FIRST, { commit: 5 });
  bench.heartbeat(A, SECOND);
  bench.outbox.flush(false);
  expect(new Set(bench.unreachable)).toEqual(new Set([FIRST, SECOND]));
});
