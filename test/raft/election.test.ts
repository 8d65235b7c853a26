import { expect, test } from "vitest";
import {
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT,
  MSG_PRE_VOTE,
  MSG_PRE_VOTE_RESPONSE,
  MSG_SNAPSHOT,
  MSG_VOTE,
  MSG_VOTE_RESPONSE,
  ROLE_CANDIDATE,
  ROLE_FOLLOWER,
  ROLE_LEADER,
  ROLE_PRE_CANDIDATE,
} from "../../src/raft/types.ts";
import { newAppend, newEntries, newMessage, RaftNetwork } from "../support/raft-network.ts";
import { members, RaftPeer } from "../support/raft-peer.ts";

const PLAIN = { settings: { preVote: false, checkQuorum: false } };

test("election: a candidate with a majority leads and commits a no-op of its term", () => {
  const network = RaftNetwork.led(3);
  const states = [...network.peers.values()].map(({ node }) => [node.role, node.term, node.leader, node.commitIndex]);
  expect(states).toEqual([
    [ROLE_LEADER, 1, 1, 1],
    [ROLE_FOLLOWER, 1, 1, 1],
    [ROLE_FOLLOWER, 1, 1, 1],
  ]);
  expect(network.peer(1).node.softState).toEqual({ role: ROLE_LEADER, leader: 1 });
});

test("election: a replica alone leads only once its own vote is durable, and commits only what is", () => {
  const network = new RaftNetwork(1, PLAIN);
  const { node } = network.peer(1);
  network.slowDisks.add(1);
  node.campaign();
  network.process(1);
  expect(node.role).toBe(ROLE_CANDIDATE);
  network.finishWrites(1);
  expect(node.role).toBe(ROLE_LEADER);
  network.process(1);
  expect(node.commitIndex).toBe(0);
  network.finishWrites(1);
  expect(node.commitIndex).toBe(1);
});

test("election: nobody leads before its own vote is durable, however many others voted", () => {
  const network = new RaftNetwork(3, PLAIN);
  const { node } = network.peer(1);
  network.slowDisks.add(1);
  node.campaign();
  network.settle();
  expect([2, 3].map((id) => network.peer(id).disk.hardState)).toMatchObject([
    { term: 1, vote: 1 },
    { term: 1, vote: 1 },
  ]);
  // Restarted now it stands in term 1 again, and gets the same votes again.
  expect([node.role, node.lastIndex, network.peer(1).disk.hardState.term]).toEqual([ROLE_CANDIDATE, 0, 0]);
  network.finishWrites(1);
  expect(node.role).toBe(ROLE_LEADER);
});

test("election: votes and refusals leave only after the term and the vote are durable", () => {
  const peer = new RaftPeer(2, { ...PLAIN, start: { index: 0, term: 0, configuration: members([1, 2, 3]), history: [] } });
  for (const kind of [MSG_PRE_VOTE, MSG_VOTE] as const) {
    peer.node.step(newMessage(kind, 1, 2, 5));
    const { ready, mail } = peer.takeReady();
    expect(mail, "nothing leaves before the write").toEqual([]);
    expect(ready.messagesAfterPersist.map((one) => [one.to, one.reject])).toEqual([[1, false]]);
    peer.finishWrite();
  }
  expect(peer.disk.hardState).toMatchObject({ term: 5, vote: 1 });
});

test("election: one vote per term, also after a restart", () => {
  const peer = new RaftPeer(2, { ...PLAIN, start: { index: 0, term: 0, configuration: members([1, 2, 3]), history: [] } });
  const answerTo = (from: number, term: number): boolean => {
    peer.node.step(newMessage(MSG_VOTE, from, 2, term));
    peer.takeReady();
    return peer.finishWrite().find(({ message }) => message.to === from)?.message.reject === false;
  };
  expect([answerTo(1, 5), answerTo(3, 5), answerTo(1, 5)], "the same candidate may ask again").toEqual([true, false, true]);
  peer.restart();
  expect([answerTo(3, 5), answerTo(1, 5), answerTo(3, 6)], "a new term is a new vote").toEqual([false, true, true]);
});

for (const { name, index, logTerm, granted } of [
  { name: "a longer log of the same term", index: 4, logTerm: 2, granted: true },
  { name: "the same log", index: 3, logTerm: 2, granted: true },
  { name: "a shorter log of the same term", index: 2, logTerm: 2, granted: false },
  { name: "a shorter log of a later term", index: 1, logTerm: 3, granted: true },
  { name: "a longer log of an earlier term", index: 9, logTerm: 1, granted: false },
]) {
  test(`election: ${name} ${granted ? "gets" : "does not get"} votes and pre-votes`, () => {
    for (const kind of [MSG_VOTE, MSG_PRE_VOTE] as const) {
      const peer = new RaftPeer(2, { ...PLAIN, start: { index: 0, term: 0, configuration: members([1, 2, 3]), history: [] } });
      peer.node.step(newAppend(1, 2, 2, 0, 0, newEntries(1, 1, 1, 2)));
      peer.takeReady();
      peer.finishWrite();
      peer.node.forgetLeader();
      peer.node.step(newMessage(kind, 3, 2, 7, { index, logTerm }));
      peer.takeReady();
      expect(peer.finishWrite().at(-1)!.message).toMatchObject({ to: 3, reject: !granted });
    }
  });
}

test("election: pre-vote keeps an isolated replica from raising the term, and from deposing the leader when it is back", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.tickAll(60);
  expect(network.peer(3).node).toMatchObject({ term: 1, role: ROLE_PRE_CANDIDATE });
  network.propose("meanwhile");
  network.heal();
  network.tickAll(25);
  expect(network.peer(1).node).toMatchObject({ role: ROLE_LEADER, term: 1 });
  expect(network.peer(3).values).toEqual(["meanwhile"]);
});

test("election: a replica with a higher term and a shorter log does not stay stuck", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.propose("a");
  // As if it had stood for election without pre-votes: term 9, but the log is behind.
  network.peer(3).node.step(newMessage(MSG_APPEND_RESPONSE, 9, 3, 9));
  network.settle();
  expect(network.peer(3).node.term).toBe(9);
  network.heal();
  network.tickAll(40);
  expect(network.leader.node.term, "the others came up to its term").toBeGreaterThan(9);
  for (const peer of network.peers.values()) expect(peer.values).toEqual(["a"]);
});

test("election: a refused pre-vote carries the voter's own term, and a lower-term pre-vote is answered", () => {
  const peer = new RaftPeer(2, { start: { index: 0, term: 0, configuration: members([1, 2, 3]), history: [] } });
  peer.node.step(newMessage(MSG_HEARTBEAT, 1, 2, 6));
  peer.takeReady();
  peer.finishWrite();
  peer.node.step(newMessage(MSG_PRE_VOTE, 3, 2, 4));
  peer.takeReady();
  expect(peer.finishWrite()[0]!.message).toMatchObject({ kind: MSG_PRE_VOTE_RESPONSE, to: 3, term: 6, reject: true });
});

test("election: a leader of an older term is told the new one", () => {
  const peer = new RaftPeer(2, { start: { index: 0, term: 0, configuration: members([1, 2, 3]), history: [] } });
  peer.node.step(newMessage(MSG_HEARTBEAT, 1, 2, 6));
  peer.takeReady();
  peer.finishWrite();
  for (const kind of [MSG_HEARTBEAT, MSG_APPEND] as const) {
    peer.node.step(newMessage(kind, 3, 2, 4));
    peer.takeReady();
    expect(peer.finishWrite()[0]!.message).toMatchObject({ to: 3, term: 6 });
  }
  expect(peer.node.leader).toBe(1);
});

test("election: a leader that no majority answers steps down within two election timeouts", () => {
  const network = RaftNetwork.led(3);
  network.isolate(1);
  network.tick(1, 10);
  expect(network.peer(1).node.role, "they answered within the last interval").toBe(ROLE_LEADER);
  network.tick(1, 10);
  expect(network.peer(1).node).toMatchObject({ role: ROLE_FOLLOWER, leader: 0, term: 1 });
});

test("election: learners do not keep a leader in office", () => {
  const network = RaftNetwork.led(4, { learners: [3, 4] });
  network.isolate(2);
  network.tickAll(21);
  expect(network.peer(1).node.role).toBe(ROLE_FOLLOWER);
});

test("election: who heard from a leader gives no vote until the lease is over, or the leader is known to be gone", () => {
  for (const { forget, ticks, voted } of [
    { forget: false, ticks: 0, voted: false },
    { forget: false, ticks: 9, voted: false },
    { forget: false, ticks: 10, voted: true },
    { forget: true, ticks: 0, voted: true },
  ]) {
    const network = RaftNetwork.led(3, { settings: { preVote: false, checkQuorum: true } });
    network.isolate(1);
    network.tick(3, ticks);
    if (forget) network.peer(3).node.forgetLeader();
    network.peer(2).node.campaign();
    network.settle();
    expect(network.peer(2).node.isLeader, `forget ${forget}, ${ticks} ticks`).toBe(voted);
    expect(network.peer(3).node.term, "the request itself does not raise the term").toBe(voted ? 2 : 1);
  }
});

test("election: a learner never stands, but votes when it is asked", () => {
  const network = new RaftNetwork(3, { learners: [3] });
  network.tick(3, 100);
  network.peer(3).node.campaign();
  network.settle();
  expect(network.peer(3).node).toMatchObject({ role: ROLE_FOLLOWER, term: 0 });
  network.peer(3).receive({ message: newMessage(MSG_VOTE, 2, 3, 4), checkpoint: null });
  network.process(3);
  expect(network.sentOf(MSG_VOTE_RESPONSE).at(-1)).toMatchObject({ from: 3, to: 2, term: 4, reject: false });
});

test("election: a stranger's vote does not count", () => {
  const network = new RaftNetwork(3, PLAIN);
  const { node } = network.peer(1);
  network.isolate(1);
  node.campaign();
  network.process(1);
  for (const stranger of [7, 8, 9]) node.step(newMessage(MSG_VOTE_RESPONSE, stranger, 1, 1));
  expect(node.role).toBe(ROLE_CANDIDATE);
  node.step(newMessage(MSG_VOTE_RESPONSE, 2, 1, 1));
  expect(node.role).toBe(ROLE_LEADER);
});

test("election: a candidate that a majority refuses is a follower again", () => {
  const network = new RaftNetwork(3, PLAIN);
  const { node } = network.peer(1);
  network.isolate(1);
  node.campaign();
  network.process(1);
  node.step(newMessage(MSG_VOTE_RESPONSE, 2, 1, 1, { reject: true }));
  node.step(newMessage(MSG_VOTE_RESPONSE, 2, 1, 1, { reject: true }));
  expect(node.role, "the same refusal twice is one").toBe(ROLE_CANDIDATE);
  node.step(newMessage(MSG_VOTE_RESPONSE, 3, 1, 1, { reject: true }));
  expect(node.role).toBe(ROLE_FOLLOWER);
});

for (const { name, kind } of [
  { name: "append", kind: MSG_APPEND },
  { name: "heartbeat", kind: MSG_HEARTBEAT },
  { name: "snapshot", kind: MSG_SNAPSHOT },
] as const) {
  test(`election: candidate and pre-candidate give way to the ${name} of a leader of their term`, () => {
    for (const preVote of [true, false]) {
      const network = new RaftNetwork(3, { settings: { preVote, checkQuorum: false } });
      const { node } = network.peer(3);
      network.isolate(3);
      node.campaign();
      network.process(3);
      expect(node.role).toBe(preVote ? ROLE_PRE_CANDIDATE : ROLE_CANDIDATE);
      const configuration = members([1, 2, 3]);
      const checkpoint = { index: 8, term: 1, configuration, history: newEntries(1, 1, 1, 1, 1, 1, 1, 1, 1) };
      const snapshot = kind === MSG_SNAPSHOT ? { index: 8, term: 1, configuration } : null;
      network.peer(3).receive({ message: newMessage(kind, 1, 3, 1, { snapshot }), checkpoint });
      network.process(3);
      expect(node).toMatchObject({ role: ROLE_FOLLOWER, leader: 1, term: 1, commitIndex: kind === MSG_SNAPSHOT ? 8 : 0 });
    }
  });
}

test("election: five replicas elect again after the leader is gone, within a few timeouts", () => {
  const network = RaftNetwork.led(5);
  network.propose("a");
  network.isolate(1);
  network.tickAll(60);
  expect(network.leader.id).not.toBe(1);
  network.propose("b");
  network.heal();
  network.tickAll(20);
  for (const peer of network.peers.values()) expect(peer.values).toEqual(["a", "b"]);
});

test("election: messages of older terms and of unknown senders change nothing", () => {
  const network = RaftNetwork.led(3);
  network.elect(1);
  const { node } = network.peer(1);
  const before = JSON.stringify([node.term, node.role, node.commitIndex, node.status()]);
  for (const kind of [MSG_VOTE_RESPONSE, MSG_APPEND_RESPONSE, MSG_PRE_VOTE_RESPONSE, MSG_VOTE] as const)
    node.step(newMessage(kind, 2, 1, 0, { index: 99 }));
  node.step(newMessage(MSG_APPEND_RESPONSE, 77, 1, 1, { index: 1 }));
  expect(JSON.stringify([node.term, node.role, node.commitIndex, node.status()])).toBe(before);
  expect(node.hasReady()).toBe(false);
});
