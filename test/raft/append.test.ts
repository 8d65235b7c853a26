import { expect, test } from "vitest";
import { MSG_APPEND, MSG_APPEND_RESPONSE, MSG_HEARTBEAT, MSG_VOTE_RESPONSE, type Message } from "../../src/raft/types.ts";
import { newAppend, newEntries, newMessage, RaftNetwork } from "../support/raft-network.ts";
import { members, RaftPeer } from "../support/raft-peer.ts";

/** Replica 2 of 1, 2, 3 with a durable log of these terms, told by leader 1. */
function follower(terms: readonly number[], commit = 0): RaftPeer {
  const peer = new RaftPeer(2, { start: { index: 0, term: 0, configuration: members([1, 2, 3]), history: [] } });
  peer.node.step(newAppend(1, 2, Math.max(0, ...terms), 0, 0, newEntries(1, ...terms), commit));
  answers(peer);
  return peer;
}

/** Writes everything and returns the answers. */
function answers(peer: RaftPeer): Message[] {
  const all: Message[] = [];
  while (peer.node.hasReady()) {
    all.push(...peer.takeReady().mail.map(({ message }) => message));
    while (peer.writes.length > 0) all.push(...peer.finishWrite().map(({ message }) => message));
  }
  return all;
}

const terms = (peer: RaftPeer): number[] => peer.disk.log.entries.map(({ term }) => term);

test("append: an entry is committed by a majority that has it durable, the leader counted like anybody else", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  network.slowDisks.add(1);
  network.isolate(3);
  node.propose(1, 0, [{ payload: new Uint8Array(3), crc: 0 }]);
  network.settle();
  expect(network.peer(2).disk.log.lastIndex, "the follower has it before the leader").toBe(2);
  expect(node.commitIndex, "one of three").toBe(1);
  network.finishWrites(1);
  expect(node.commitIndex).toBe(2);
});

test("append: two followers commit for a leader whose disk is slow, which applies only what it has durable", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  network.slowDisks.add(1);
  network.leader.propose("x");
  network.settle();
  expect([node.commitIndex, network.leader.applied]).toEqual([2, 1]);
  network.finishWrites(1);
  network.settle();
  expect(network.leader.applied).toBe(2);
});

test("append: a follower answers only when its write is done", () => {
  const peer = follower([]);
  peer.node.step(newAppend(1, 2, 1, 0, 0, newEntries(1, 1, 1)));
  const { ready, mail } = peer.takeReady();
  expect(mail).toEqual([]);
  expect([ready.mustSync, ready.writeSequence > 0, ready.messagesAfterPersist.length]).toEqual([true, true, 1]);
  expect(peer.finishWrite()[0]!.message).toMatchObject({ kind: MSG_APPEND_RESPONSE, index: 2, reject: false });
});

test("append: an answer with nothing to write waits for the writes that it vouches for", () => {
  const peer = follower([1]);
  const append = (): Message => newAppend(1, 2, 1, 1, 1, newEntries(2, 1));
  peer.node.step(append());
  const first = peer.takeReady().ready;
  peer.node.step(append());
  const second = peer.takeReady().ready;
  expect(second.entries).toEqual([]);
  expect(second.writeSequence, "not 0: the host has to wait").toBeGreaterThan(first.writeSequence);
  peer.finishWrite();
  peer.finishWrite();
  peer.node.step(append());
  expect(peer.takeReady().ready.writeSequence, "nothing is under way any more").toBe(0);
});

test("append: only entries of the own term are committed by counting (Raft, figure 8)", () => {
  const network = new RaftNetwork(3, { settings: { preVote: false, checkQuorum: false } });
  const peer = network.peer(1);
  peer.node.step(newAppend(2, 1, 1, 0, 0, newEntries(1, 1, 1)));
  answers(peer);
  peer.node.campaign();
  answers(peer);
  peer.node.step(newMessage(MSG_VOTE_RESPONSE, 2, 1, 2));
  answers(peer);
  expect(peer.node.isLeader).toBe(true);
  for (const from of [2, 3]) peer.node.step(newMessage(MSG_APPEND_RESPONSE, from, 1, 2, { index: 2 }));
  expect(peer.node.commitIndex, "all have the old entries, and still they are not committed").toBe(0);
  peer.node.step(newMessage(MSG_APPEND_RESPONSE, 2, 1, 2, { index: 3 }));
  expect(peer.node.commitIndex).toBe(3);
});

for (const { name, append, log, answer } of [
  {
    name: "new entries are added",
    append: newAppend(1, 2, 2, 3, 2, newEntries(4, 2, 2)),
    log: [1, 1, 2, 2, 2],
    answer: { index: 5, reject: false },
  },
  {
    name: "a late append does not shorten the log",
    append: newAppend(1, 2, 2, 1, 1, newEntries(2, 1)),
    log: [1, 1, 2],
    answer: { index: 2, reject: false },
  },
  {
    name: "an empty append does not shorten the log",
    append: newAppend(1, 2, 2, 1, 1, []),
    log: [1, 1, 2],
    answer: { index: 1, reject: false },
  },
  {
    name: "only from a conflict on the log is replaced",
    append: newAppend(1, 2, 3, 1, 1, newEntries(2, 1, 3)),
    log: [1, 1, 3],
    answer: { index: 3, reject: false },
  },
  {
    name: "a conflict replaces all that follows",
    append: newAppend(1, 2, 3, 1, 1, newEntries(2, 3)),
    log: [1, 3],
    answer: { index: 2, reject: false },
  },
  {
    name: "a gap is refused with the end of the log",
    append: newAppend(1, 2, 3, 9, 3, newEntries(10, 3)),
    log: [1, 1, 2],
    answer: { index: 9, reject: true, hint: 3, logTerm: 2 },
  },
  {
    name: "a conflict is refused with the end of the last fitting term",
    append: newAppend(1, 2, 3, 3, 1, []),
    log: [1, 1, 2],
    answer: { index: 3, reject: true, hint: 2, logTerm: 1 },
  },
]) {
  test(`append: ${name}`, () => {
    const peer = follower([1, 1, 2]);
    peer.node.step(append);
    expect(answers(peer).at(-1)).toMatchObject({ kind: MSG_APPEND_RESPONSE, to: 1, ...answer });
    expect(terms(peer)).toEqual(log);
  });
}

test("append: what is committed is acknowledged as such and never touched", () => {
  const peer = follower([1, 1, 2], 2);
  expect(peer.node.commitIndex).toBe(2);
  peer.node.step(newAppend(1, 2, 2, 0, 0, newEntries(1, 1)));
  expect(answers(peer).at(-1)).toMatchObject({ index: 2, reject: false });
  expect(terms(peer)).toEqual([1, 1, 2]);
  expect(() => peer.node.step(newAppend(3, 2, 5, 0, 0, newEntries(1, 5)))).not.toThrow();
  expect(() => peer.node.step(newAppend(3, 2, 5, 2, 1, newEntries(3, 5)))).not.toThrow();
  answers(peer);
  expect(terms(peer)).toEqual([1, 1, 5]);
});

test("append: a leader never replaces its own entries", () => {
  const peer = follower([1, 1, 2]);
  peer.node.step(newAppend(1, 2, 3, 3, 2, newEntries(4, 3)));
  expect(() => peer.node.step(newAppend(1, 2, 3, 1, 1, newEntries(2, 3)))).toThrow("never replaces its own");
});

for (const { name, message, commit } of [
  { name: "no further than the entries that an append brings", message: newAppend(1, 2, 2, 1, 1, newEntries(2, 1), 9), commit: 2 },
  { name: "no further than the leader says", message: newAppend(1, 2, 2, 3, 2, newEntries(4, 2), 2), commit: 2 },
  { name: "by a heartbeat", message: newMessage(MSG_HEARTBEAT, 1, 2, 2, { commit: 3 }), commit: 3 },
]) {
  test(`append: a follower commits ${name}`, () => {
    const peer = follower([1, 1, 2]);
    peer.node.step(message);
    expect(peer.node.commitIndex).toBe(commit);
  });
}

test("append: a heartbeat carries no more than the follower is known to have", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.propose("a");
  network.tickAll(1);
  const commits = new Map(
    network
      .sentOf(MSG_HEARTBEAT)
      .slice(-2)
      .map(({ to, commit }) => [to, commit]),
  );
  expect(commits).toEqual(
    new Map([
      [2, 2],
      [3, 1],
    ]),
  );
});

test("append: conflict hints skip a whole term per round trip, on both sides", () => {
  const network = new RaftNetwork(3, { settings: { preVote: false, checkQuorum: false } });
  const long = (term: number): number[] => Array.from({ length: 40 }, () => term);
  const leaderLog = newEntries(1, 1, ...long(4), ...long(6), ...long(8));
  const otherLog = newEntries(1, 1, ...long(2), ...long(3), ...long(5), ...long(7));
  for (const [id, log] of [
    [1, leaderLog],
    [2, leaderLog],
    [3, otherLog],
  ] as const) {
    network.peer(id).node.step(newAppend(9, id, 8, 0, 0, log));
    answers(network.peer(id));
  }
  network.elect(1);
  const probes = network.sentOf(MSG_APPEND_RESPONSE).filter(({ from, reject }) => from === 3 && reject);
  expect(probes.length, "four foreign terms").toBeLessThanOrEqual(4);
  expect(network.peer(3).node.lastIndex).toBe(network.peer(1).node.lastIndex);
});

test("append: ABA, the end of an older write does not vouch for entries that replaced its own", () => {
  const peer = follower([1]);
  peer.node.step(newAppend(1, 2, 1, 1, 1, newEntries(2, 1, 1, 1)));
  peer.takeReady(); // Write A: 2..4 of term 1.
  peer.node.step(newAppend(3, 2, 2, 2, 1, newEntries(3, 2, 2)));
  peer.takeReady(); // Write B: 3..4 of term 2.
  peer.node.step(newMessage(MSG_HEARTBEAT, 3, 2, 2, { commit: 4 }));
  expect(peer.node.commitIndex).toBe(4);
  peer.finishWrite();
  expect(peer.takeReady().ready.committedTo, "only entry 2 is still the one that A wrote").toBe(2);
  peer.finishWrite();
  expect(peer.takeReady().ready.committedTo).toBe(4);
});

test("append: a write that ended does not vouch for entries that no write has carried yet", () => {
  const peer = follower([1]);
  peer.node.step(newAppend(1, 2, 1, 1, 1, newEntries(2, 1, 1)));
  peer.takeReady();
  peer.node.step(newAppend(3, 2, 2, 1, 1, newEntries(2, 2, 2), 3));
  peer.finishWrite();
  expect(peer.node.commitIndex).toBe(3);
  expect(peer.takeReady().ready.committedTo, "2 and 3 have changed since").toBe(1);
});

test("append: unsynced entries that a power cut undid are fetched again, and never committed by a mere heartbeat", () => {
  // Relaxed durability: the follower acknowledged 2 and 3 of term 2 before they were synced; what the disk kept are the
  // entries of term 1 in the same place.
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.peer(3).node.step(newAppend(1, 3, 1, 1, 1, newEntries(2, 1, 1)));
  network.process(3);
  const kept = [...network.peer(3).disk.log.entries];
  network.heal();
  network.peer(1).node.transferLeadership(2);
  network.settle();
  expect(network.leader.id).toBe(2);
  network.propose("b");
  network.propose("c");
  const third = network.peer(3);
  expect(third.values).toEqual(["b", "c"]);
  third.disk.log.entries = kept;
  third.disk.hardState = { ...third.disk.hardState, commit: 1 };
  third.restart();
  network.tick(2);
  network.settle();
  expect(third.values).toEqual(["b", "c"]);
  expect(third.disk.log.entries.map(({ term }) => term)).toEqual(network.peer(2).disk.log.entries.map(({ term }) => term));
  expect(network.leader.node.status().find(({ peer }) => peer === 3)!.match).toBe(network.leader.node.lastIndex);
});

test("append: a follower that restarts on an idle group learns the commit index by one round of heartbeats", () => {
  const network = RaftNetwork.led(3);
  network.propose("a");
  const third = network.peer(3);
  third.disk.hardState = { ...third.disk.hardState, commit: 0 };
  third.restart();
  expect(third.values).toEqual([]);
  network.tick(1);
  network.settle();
  expect(third.values).toEqual(["a"]);
});

test("append: the same Ready is never handed out twice, and none when there is nothing", () => {
  const network = RaftNetwork.led(1);
  const peer = network.peer(1);
  expect(peer.node.hasReady()).toBe(false);
  peer.propose("a");
  const one = peer.takeReady().ready;
  expect(one.entries.map(({ index }) => index)).toEqual([2]);
  expect(peer.node.hasReady()).toBe(false);
  const two = peer.takeReady().ready;
  expect([two.entries.length, two.messages.length, two.hardState, two.writeSequence]).toEqual([0, 0, null, 0]);
  expect(network.sentOf(MSG_APPEND)).toEqual([]);
});
