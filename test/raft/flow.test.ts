import { expect, test } from "vitest";
import {
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  PROGRESS_PROBE,
  PROGRESS_REPLICATE,
  PROPOSE_FULL,
  PROPOSE_NOT_LEADER,
  PROPOSE_OK,
  type Message,
  type ProgressStatus,
} from "../../src/raft/types.ts";
import { RaftNetwork } from "../support/raft-network.ts";

const payload = (bytes: number): { payload: Uint8Array; crc: number } => ({ payload: new Uint8Array(bytes), crc: 0 });
const progress = (network: RaftNetwork, peer: number): ProgressStatus => network.leader.node.status().find((one) => one.peer === peer)!;
/** Appends to `to` that carry entries, since `from` messages were sent. */
const carried = (network: RaftNetwork, to: number, from = 0): Message[] =>
  network.sent.slice(from).filter((message) => message.kind === MSG_APPEND && message.to === to && message.lastEntry > message.index);

test("flow: proposals are numbered in order right after the log, all or none", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  expect(node.propose(1, 77, [payload(1), payload(2), payload(3)])).toBe(PROPOSE_OK);
  expect(node.lastIndex).toBe(4);
  network.settle();
  expect(
    network
      .peer(3)
      .history.slice(1)
      .map(({ index, term, kind, timestampMs, payload: { length } }) => [index, term, kind, timestampMs, length]),
  ).toEqual([
    [2, 1, 1, 77, 1],
    [3, 1, 1, 77, 2],
    [4, 1, 1, 77, 3],
  ]);
  expect(network.peer(2).node.propose(1, 0, [payload(1)])).toBe(PROPOSE_NOT_LEADER);
});

test("flow: payloads travel by reference", () => {
  const network = RaftNetwork.led(3);
  const one = payload(10);
  network.leader.node.propose(1, 0, [one]);
  network.settle();
  for (const peer of network.peers.values()) expect(peer.history.at(-1)!.payload).toBe(one.payload);
});

for (const { name, settings, sizes, messages } of [
  {
    name: "the window in messages",
    settings: { inflightMessagesMax: 3, appendBytesMax: 1 },
    sizes: [1, 1, 1, 1, 1],
    messages: [[2], [3], [4]],
  },
  {
    name: "the window in bytes",
    settings: { inflightBytesMax: 25, appendBytesMax: 10 },
    sizes: [10, 10, 10, 10, 10],
    messages: [[2], [3], [4]],
  },
  {
    name: "the bytes of one append",
    settings: { appendBytesMax: 20 },
    sizes: [10, 10, 5, 5, 5, 30, 1],
    messages: [[2, 3], [4, 6], [7], [8]],
  },
]) {
  test(`flow: ${name} bounds what is sent at once`, () => {
    const network = RaftNetwork.led(2, { settings });
    const before = network.sent.length;
    network.leader.node.propose(1, 0, sizes.map(payload));
    network.process(1);
    const ranges = carried(network, 2, before).map(({ index, lastEntry }) =>
      lastEntry === index + 1 ? [lastEntry] : [index + 1, lastEntry],
    );
    expect(ranges).toEqual(messages);
    network.settle();
    expect(network.peer(2).node.commitIndex, "answers open the window again").toBe(1 + sizes.length);
  });
}

test("flow: a follower that was never heard is probed with one message at a time", () => {
  const network = new RaftNetwork(3);
  network.loses = ({ from, to }) => from === 3 || to === 3;
  network.elect(1);
  const before = network.sent.length;
  for (let i = 0; i < 5; i++) network.propose(`${i}`);
  expect(carried(network, 3, before)).toEqual([]);
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_PROBE, paused: true });
  network.heal();
  network.tick(1);
  network.settle();
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_REPLICATE, match: 6, next: 7, inflight: 0 });
});

test("flow: a window full of lost messages opens by an empty append after a heartbeat", () => {
  const network = RaftNetwork.led(3, { settings: { inflightMessagesMax: 2, appendBytesMax: 1 } });
  network.isolate(3);
  for (let i = 0; i < 4; i++) network.propose("x");
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_REPLICATE, paused: true, inflightFull: true, next: 4 });
  const before = network.sent.length;
  network.heal();
  network.tick(1);
  network.settle();
  expect(
    network.sent.slice(before).some((message) => message.kind === MSG_APPEND && message.to === 3 && message.lastEntry === message.index),
  ).toBe(true);
  expect(network.peer(3).node.commitIndex).toBe(network.leader.node.commitIndex);
});

test("flow: an unreachable follower falls back to a probe, and nothing is sent to it until it answers", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.propose("a");
  network.leader.node.reportUnreachable(3);
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_PROBE, match: 1, next: 2 });
  network.propose("b");
  const before = network.sent.length;
  network.propose("c");
  expect(carried(network, 3, before)).toEqual([]);
  for (const stranger of [1, 9]) network.leader.node.reportUnreachable(stranger);
  network.peer(2).node.reportUnreachable(3);
  network.heal();
  network.tick(1);
  network.settle();
  expect(network.peer(3).values).toEqual(["a", "b", "c"]);
});

test("flow: a lost append is found out by the next one", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.propose("a");
  network.heal();
  network.propose("b");
  expect(network.peer(3).values).toEqual(["a", "b"]);
  const refused = network.sentOf(MSG_APPEND_RESPONSE).filter(({ reject }) => reject).length;
  expect(refused >= 1 && refused <= 2, "the new entry, and the commit index that followed it").toBe(true);
});

test("flow: late refusals and late answers do not move a follower's progress back", () => {
  const network = RaftNetwork.led(3);
  for (const text of ["a", "b", "c"]) network.propose(text);
  const { node } = network.leader;
  const before = progress(network, 2);
  const late = (fields: Partial<Message>): void =>
    node.step(
      Object.assign(Object.create(network.sentOf(MSG_APPEND_RESPONSE)[0]!), {
        kind: MSG_APPEND_RESPONSE,
        from: 2,
        to: 1,
        term: 1,
        ...fields,
      }) as Message,
    );
  late({ index: 2, reject: true, hint: 0 });
  late({ index: 1 });
  late({ index: 99 });
  expect(progress(network, 2)).toEqual(before);
});

test("flow: what is not committed is bounded in bytes, a single large proposal aside", () => {
  const network = RaftNetwork.led(3, { settings: { uncommittedBytesMax: 100 } });
  const { node } = network.leader;
  network.isolate(1);
  expect(node.propose(1, 0, [payload(250)]), "nothing else waits").toBe(PROPOSE_OK);
  expect(node.propose(1, 0, [payload(1)])).toBe(PROPOSE_FULL);
  expect(node.lastIndex, "a refused proposal leaves no trace").toBe(2);
  network.heal();
  network.tick(1);
  network.settle();
  expect([node.propose(1, 0, [payload(60), payload(40)]), node.propose(1, 0, [payload(1)])]).toEqual([PROPOSE_OK, PROPOSE_FULL]);
  network.settle();
  expect(node.propose(1, 0, [payload(100)]), "committed bytes no longer count").toBe(PROPOSE_OK);
});

test("flow: a commit index is told once, not by a storm of empty appends", () => {
  const network = RaftNetwork.led(3);
  const before = network.sent.length;
  network.propose("a");
  const appends = network.sent.slice(before).filter(({ kind, to }) => kind === MSG_APPEND && to === 2);
  expect(appends.map(({ lastEntry, index, commit }) => [lastEntry - index, commit])).toEqual([
    [1, 1],
    [0, 2],
  ]);
  network.settle();
  expect(network.leader.node.hasReady()).toBe(false);
});
