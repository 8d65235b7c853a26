import { expect, test } from "vitest";
import { MSG_APPEND, MSG_HEARTBEAT, MSG_HEARTBEAT_RESPONSE, MSG_VOTE_RESPONSE } from "../../src/raft/types.ts";
import { newMessage, RaftNetwork } from "../support/raft-network.ts";

test("read: a majority confirms it, at the commit index of the call or later", () => {
  const network = RaftNetwork.led(3);
  network.propose("a");
  expect(network.leader.node.readIndex(7)).toBe(true);
  expect(network.leader.reads).toEqual([]);
  network.settle();
  expect(network.leader.reads).toEqual([{ token: 7, index: 2 }]);
});

test("read: all reads of a turn share one round of heartbeats", () => {
  const network = RaftNetwork.led(3);
  const before = network.sentOf(MSG_HEARTBEAT).length;
  for (let token = 1; token <= 50; token++) network.leader.node.readIndex(token);
  network.settle();
  expect(network.leader.reads.map(({ token }) => token)).toEqual(Array.from({ length: 50 }, (_, at) => at + 1));
  expect(network.sentOf(MSG_HEARTBEAT).length - before).toBe(2);
});

test("read: a replica alone confirms at once", () => {
  const network = RaftNetwork.led(1);
  network.leader.node.readIndex(1);
  network.settle();
  expect(network.leader.reads).toEqual([{ token: 1, index: 1 }]);
});

test("read: followers refuse", () => {
  const network = RaftNetwork.led(3);
  expect(network.peer(2).node.readIndex(1)).toBe(false);
});

test("read: an answer to an older round confirms nothing newer", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  network.isolate(1);
  node.readIndex(1);
  network.process(1);
  const round = network.sentOf(MSG_HEARTBEAT).at(-1)!.context;
  node.readIndex(2);
  network.process(1);
  node.step(newMessage(MSG_HEARTBEAT_RESPONSE, 2, 1, 1, { context: round }));
  network.process(1);
  expect(network.leader.reads.map(({ token }) => token)).toEqual([1]);
  node.step(newMessage(MSG_HEARTBEAT_RESPONSE, 3, 1, 1, { context: round + 1 }));
  network.process(1);
  expect(
    network.leader.reads.map(({ token }) => token),
    "one answer to the newest round confirms all before it",
  ).toEqual([1, 2]);
});

test("read: a lost round is made good by the next heartbeat", () => {
  const network = RaftNetwork.led(3);
  network.isolate(1);
  network.leader.node.readIndex(1);
  network.settle();
  network.heal();
  network.tick(1);
  network.settle();
  expect(network.leader.reads).toEqual([{ token: 1, index: 1 }]);
});

test("read: answers of learners confirm nothing", () => {
  const network = RaftNetwork.led(3, { learners: [3] });
  network.isolate(2);
  network.leader.node.readIndex(1);
  network.settle();
  expect(network.leader.reads).toEqual([]);
});

test("read: a new leader answers only after it has committed in its own term", () => {
  const network = new RaftNetwork(3, { settings: { preVote: false, checkQuorum: false } });
  const peer = network.peer(1);
  network.isolate(1);
  peer.node.campaign();
  network.process(1);
  peer.node.step(newMessage(MSG_VOTE_RESPONSE, 2, 1, 1));
  expect(peer.node.readIndex(5)).toBe(true);
  network.process(1);
  const before = network.sentOf(MSG_HEARTBEAT).length;
  peer.node.step(newMessage(MSG_HEARTBEAT_RESPONSE, 2, 1, 1, { context: 1 }));
  network.process(1);
  expect([peer.reads, network.sentOf(MSG_HEARTBEAT).length - before]).toEqual([[], 0]);
  network.heal();
  network.tick(1);
  network.settle();
  expect(peer.reads).toEqual([{ token: 5, index: 1 }]);
});

test("read: what waits is dropped with the leadership, early and started reads alike", () => {
  for (const early of [true, false]) {
    const network = RaftNetwork.led(3);
    if (early) network.loses = ({ kind }) => kind === MSG_APPEND;
    network.peer(1).node.transferLeadership(2);
    network.settle();
    const old = network.leader;
    expect(old.id).toBe(2);
    network.isolate(2);
    old.node.readIndex(1);
    old.node.readIndex(2);
    network.settle();
    old.node.step(newMessage(MSG_HEARTBEAT, 3, 2, 9));
    network.process(2);
    expect([old.reads, old.readsDropped]).toEqual([[], [1, 2]]);
  }
});

test("read: waiting reads are bounded, and all of them can be dropped at once", () => {
  const network = RaftNetwork.led(3);
  network.isolate(1);
  const { node } = network.leader;
  let accepted = 0;
  while (accepted < 200_000 && node.readIndex(accepted)) accepted += 1;
  expect(accepted).toBe(100_000);
  node.step(newMessage(MSG_HEARTBEAT, 3, 1, 9));
  expect(network.peer(1).node.ready().readsDropped.length).toBe(accepted);
});

test("read: what was confirmed before the group rested confirms nothing after it", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  for (const token of [1, 2]) {
    node.readIndex(token);
    network.settle();
  }
  for (const peer of network.peers.values()) peer.node.slimDown();
  network.isolate(1);
  node.readIndex(3);
  network.settle();
  expect(network.leader.reads.map(({ token }) => token)).toEqual([1, 2]);
  network.heal();
  network.tick(1, 2);
  network.settle();
  expect(network.leader.reads.map(({ token }) => token)).toEqual([1, 2, 3]);
});
