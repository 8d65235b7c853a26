import { crc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { changePayload, decodeChange, encodeChange } from "../../src/raft/configuration-codec.ts";
import {
  CHANGE_ADD_LEARNER,
  CHANGE_ADD_VOTER,
  CHANGE_REMOVE,
  ENTRY_CONFIGURATION,
  MSG_APPEND_RESPONSE,
  MSG_PRE_VOTE_RESPONSE,
  MSG_TIMEOUT_NOW,
  PROPOSE_CHANGE_PENDING,
  PROPOSE_NOT_LEADER,
  PROPOSE_OK,
  ROLE_FOLLOWER,
  ROLE_LEADER,
  ROLE_PRE_CANDIDATE,
  type Change,
  type ChangeKind,
  type Configuration,
  type Transition,
} from "../../src/raft/types.ts";
import { newMessage, RaftNetwork } from "../support/raft-network.ts";
import { members, NO_MEMBERS } from "../support/raft-peer.ts";

const add = (peer: number): Change => ({ kind: CHANGE_ADD_VOTER, peer });
const learn = (peer: number): Change => ({ kind: CHANGE_ADD_LEARNER, peer });
const remove = (peer: number): Change => ({ kind: CHANGE_REMOVE, peer });

function propose(network: RaftNetwork, changes: readonly Change[], transition: Transition = "auto"): number {
  return network.leader.node.proposeChange({ transition, changes }, 0);
}

/** Configurations that replica `id` applied, oldest first, each once. */
function seen(network: RaftNetwork, id: number): { joint: boolean; final: Configuration } {
  const changes = network
    .peer(id)
    .history.filter(({ kind }) => kind === ENTRY_CONFIGURATION)
    .map(({ payload }) => decodeChange(payload));
  return { joint: changes.some(({ changes: list }) => list.length === 0), final: network.peer(id).node.configuration };
}

for (const { name, changes, transition, joint, voters, learners } of [
  { name: "one voter more", changes: [add(4)], joint: false, voters: [1, 2, 3, 4], learners: [] },
  { name: "one voter less", changes: [remove(3)], joint: false, voters: [1, 2], learners: [] },
  { name: "two learners", changes: [learn(4), learn(5)], joint: false, voters: [1, 2, 3], learners: [4, 5] },
  { name: "a voter becomes a learner", changes: [learn(3)], joint: false, voters: [1, 2], learners: [3] },
  { name: "one voter replaced", changes: [remove(3), add(4)], joint: true, voters: [1, 2, 4], learners: [] },
  { name: "two voters more", changes: [add(4), add(5)], joint: true, voters: [1, 2, 3, 4, 5], learners: [] },
  { name: "a voter replaced and kept as a learner", changes: [learn(3), add(4)], joint: true, voters: [1, 2, 4], learners: [3] },
  {
    name: "one voter more, through a joint configuration on request",
    changes: [add(4)],
    transition: "jointImplicit" as const,
    joint: true,
    voters: [1, 2, 3, 4],
    learners: [],
  },
  { name: "a change that changes nothing", changes: [{ kind: 3 as const, peer: 2 }], joint: false, voters: [1, 2, 3], learners: [] },
]) {
  test(`membership: ${name}`, () => {
    const network = RaftNetwork.led(3);
    network.join(4, 5);
    expect(propose(network, changes, transition)).toBe(PROPOSE_OK);
    network.settle();
    network.tickAll(3);
    network.propose("after");
    for (const id of [...voters, ...learners]) {
      expect(seen(network, id), `replica ${id}`).toEqual({ joint, final: { ...NO_MEMBERS, voters, learners } });
      expect(network.peer(id).values, `replica ${id}`).toEqual(["after"]);
    }
  });
}

test("membership: an explicit joint configuration is left when asked, and needs both majorities until then", () => {
  const network = RaftNetwork.led(3);
  network.join(4, 5);
  propose(network, [remove(2), remove(3), add(4), add(5)], "jointExplicit");
  network.settle();
  expect(network.leader.node.configuration).toMatchObject({ voters: [1, 4, 5], votersOutgoing: [1, 2, 3], autoLeave: false });
  for (const lost of [
    [2, 3],
    [4, 5],
  ]) {
    network.isolate(...lost);
    const { commitIndex } = network.leader.node;
    network.leader.propose("x");
    network.settle();
    expect(network.leader.node.commitIndex, `without ${lost.join(" and ")}`).toBe(commitIndex);
    network.heal();
    network.tick(1);
    network.settle();
    expect(network.leader.node.commitIndex).toBe(commitIndex + 1);
  }
  expect(propose(network, [add(2)]), "no other change from here").toBe(PROPOSE_CHANGE_PENDING);
  expect(propose(network, [])).toBe(PROPOSE_OK);
  network.settle();
  expect(network.leader.node.configuration).toEqual(members([1, 4, 5]));
});

test("membership: one change at a time; the next one only after the first is applied", () => {
  const network = RaftNetwork.led(3);
  network.isolate(2, 3);
  expect([propose(network, [learn(4)]), propose(network, [learn(5)])]).toEqual([PROPOSE_OK, PROPOSE_CHANGE_PENDING]);
  network.heal();
  network.tick(1);
  network.settle();
  expect(propose(network, [learn(5)])).toBe(PROPOSE_OK);
});

test("membership: a new leader proposes no change before what it inherited is applied", () => {
  const network = RaftNetwork.led(3);
  network.loses = ({ kind }) => kind === MSG_APPEND_RESPONSE;
  network.leader.propose("b");
  network.settle();
  network.peer(2).node.step(newMessage(MSG_TIMEOUT_NOW, 1, 2, 1));
  network.settle();
  expect(network.leader.id).toBe(2);
  expect(propose(network, [learn(4)]), "b is in the log, and nobody knows yet whether it is committed").toBe(PROPOSE_CHANGE_PENDING);
  network.heal();
  network.tickAll(2);
  expect(propose(network, [learn(4)])).toBe(PROPOSE_OK);
});

test("membership: what does not fit is refused", () => {
  const network = RaftNetwork.led(3);
  expect(propose(network, [remove(1), remove(2), remove(3)])).toBe(PROPOSE_CHANGE_PENDING);
  expect(propose(network, []), "nothing to leave").toBe(PROPOSE_CHANGE_PENDING);
  expect(network.peer(2).node.proposeChange({ transition: "auto", changes: [add(4)] }, 0)).toBe(PROPOSE_NOT_LEADER);
  expect(() => network.leader.node.propose(ENTRY_CONFIGURATION, 0, [])).toThrow("proposeChange");
  expect(network.leader.node.lastIndex).toBe(1);
});

test("membership: a removed leader commits its removal without counting itself, steps down, and stands no more", () => {
  const network = RaftNetwork.led(3);
  propose(network, [remove(1)]);
  network.settle();
  expect(network.peer(1).node).toMatchObject({ role: ROLE_FOLLOWER, configuration: members([2, 3]) });
  network.tickAll(40);
  expect([2, 3]).toContain(network.leader.id);
  network.propose("without it");
  expect(network.peer(1).values).toEqual([]);
  network.peer(1).node.campaign();
  expect(network.peer(1).node.role).toBe(ROLE_FOLLOWER);
});

test("membership: a leader on its way out leads until the change is applied, and may be elected again until then", () => {
  const network = RaftNetwork.led(3);
  network.isolate(2, 3);
  propose(network, [remove(1)]);
  network.settle();
  expect(network.leader.id, "not committed yet").toBe(1);
  network.tick(1, 25);
  expect(network.peer(1).node.role).toBe(ROLE_FOLLOWER);
  network.heal();
  network.peer(1).node.campaign();
  network.settle();
  network.tickAll(30);
  expect(network.leader.node.configuration).toEqual(members([2, 3]));
  expect(network.leader.id).not.toBe(1);
});

test("membership: a removed leader that may stay in office takes no proposals", () => {
  const network = RaftNetwork.led(3, { settings: { stepDownOnRemoval: false } });
  propose(network, [remove(1)]);
  network.settle();
  expect(network.peer(1).node.role).toBe(ROLE_LEADER);
  expect(network.peer(1).propose("x")).toBe(false);
});

test("membership: a demoted leader steps down as well", () => {
  const network = RaftNetwork.led(3);
  propose(network, [learn(1)]);
  network.settle();
  expect(network.peer(1).node.role).toBe(ROLE_FOLLOWER);
});

test("membership: a new member does not depose the leader before it had time to answer", () => {
  const network = RaftNetwork.led(1);
  network.tick(1, 9);
  propose(network, [add(2)]);
  network.settle();
  expect(network.leader.node.configuration.voters).toEqual([1, 2]);
  network.tick(1, 1);
  expect(network.peer(1).node.role).toBe(ROLE_LEADER);
  network.tick(1, 10);
  expect(network.peer(1).node.role).toBe(ROLE_FOLLOWER);
});

/** Of voters 1 and 2, 1 led and removed itself; its log is longer, and 2 does not know that the removal is committed. */
function removedWithTheLongerLog(): RaftNetwork {
  const network = RaftNetwork.led(2);
  propose(network, [remove(1)]);
  network.process(1);
  network.deliver();
  network.process(2);
  network.leader.propose("kept nowhere else");
  network.loses = ({ from }) => from === 1;
  network.settle();
  network.heal();
  expect([network.peer(1).node.configuration.voters, network.peer(2).node.configuration.voters]).toEqual([[2], [1, 2]]);
  expect(network.peer(1).node.lastIndex).toBeGreaterThan(network.peer(2).node.lastIndex);
  return network;
}

test("membership: who was removed with the longest log tells those that ask for its vote what is committed", () => {
  const network = removedWithTheLongerLog();
  network.tickAll(60);
  expect(network.leader.id).toBe(2);
  expect(network.leader.node.configuration).toEqual(members([2]));
  network.propose("and on");
  expect(network.leader.values).toEqual(["and on"]);
});

test("membership: a refusal about entries that differ commits nothing", () => {
  const network = removedWithTheLongerLog();
  const { node } = network.peer(2);
  network.tick(2, 20);
  expect(node.role).toBe(ROLE_PRE_CANDIDATE);
  const before = node.commitIndex;
  for (const [commit, logTerm] of [
    [node.lastIndex, node.term + 1],
    [node.lastIndex + 1, node.term],
    [before, node.term],
  ] as const) {
    node.step(newMessage(MSG_PRE_VOTE_RESPONSE, 3, 2, node.term, { reject: true, commit, logTerm }));
    expect(node.commitIndex, `${commit} of term ${logTerm}`).toBe(before);
  }
});

test("membership: the leader leaves a joint configuration by itself, also when a transfer was in the way", () => {
  const network = RaftNetwork.led(3);
  network.join(4);
  network.loses = ({ kind }) => kind === MSG_TIMEOUT_NOW;
  propose(network, [remove(3), add(4)]);
  network.leader.node.transferLeadership(2);
  network.settle();
  expect(network.leader.node.configuration.votersOutgoing).toEqual([1, 2, 3]);
  network.tickAll(11);
  expect(network.leader.node.configuration).toEqual(members([1, 2, 4]));
});

test("membership: a new leader finishes the joint configuration of the old one", () => {
  const network = RaftNetwork.led(3);
  network.join(4, 5);
  propose(network, [add(4), add(5)]);
  // The entry that would leave the joint configuration never gets out of the first leader.
  network.loses = ({ from, index, lastEntry }) => from === 1 && lastEntry > 2 && index >= 2;
  network.settle();
  network.isolate(1);
  network.tickAll(60);
  expect(network.leader.id).not.toBe(1);
  expect(network.leader.node.configuration).toEqual(members([1, 2, 3, 4, 5]));
});

test("membership: changes carry a checksum that everybody computes the same, also those the core proposes itself", () => {
  const network = RaftNetwork.led(3);
  network.join(4);
  propose(network, [remove(3), add(4)]);
  network.settle();
  const entries = network.leader.history.filter(({ kind }) => kind === ENTRY_CONFIGURATION);
  expect(entries.length).toBe(2);
  for (const { payload, crc } of entries) expect(crc).toBe(crc32(payload));
});

test("membership: every change survives its encoding", () => {
  const change = fc.record({
    transition: fc.constantFrom<Transition>("auto", "jointImplicit", "jointExplicit"),
    changes: fc.array(fc.record({ kind: fc.constantFrom<ChangeKind>(0, 1, 2, 3), peer: fc.nat({ max: 0xffff_ffff }) }), { maxLength: 20 }),
  });
  fc.assert(
    fc.property(change, (one) => {
      const { payload, crc } = changePayload(one);
      expect(decodeChange(payload)).toEqual(one);
      expect(crc).toBe(crc32(payload));
    }),
  );
  const bytes = encodeChange({ transition: "auto", changes: [add(1)] });
  expect(() => decodeChange(Uint8Array.from(bytes, (byte, at) => (at === 0 ? 9 : byte)))).toThrow("newer");
  expect(() => decodeChange(bytes.subarray(0, bytes.length - 1))).toThrow("length");
});

test("membership: nobody stands for election with a committed change that is not applied", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  propose(network, [learn(4)]);
  network.settle();
  network.heal();
  network.tick(1);
  for (const id of [1, 3]) network.process(id);
  network.deliver();
  // Replica 3 catches up by hand: its host is slow to apply.
  const third = network.peer(3);
  for (let round = 0; round < 4; round++) {
    network.process(1);
    if (third.node.hasReady()) network.post(third.takeReady().mail);
    while (third.writes.length > 0) network.post(third.finishWrite());
    network.deliver();
  }
  expect([third.node.commitIndex, third.applied]).toEqual([2, 1]);
  third.node.campaign();
  network.tick(3, 50);
  expect([third.node.role, third.node.term]).toEqual([ROLE_FOLLOWER, 1]);
  while (third.node.hasReady()) {
    third.takeReady();
    while (third.writes.length > 0) third.finishWrite();
    third.apply();
  }
  expect(third.applied).toBe(2);
  third.node.forgetLeader();
  third.node.campaign();
  expect(third.node.role).not.toBe(ROLE_FOLLOWER);
});

test("membership: a write with entries carries the newest commit index, even if a host dropped it before", () => {
  // Two changes on disk without the commit of the first: the replica would restart and vote two configurations behind.
  const network = RaftNetwork.led(3);
  const third = network.peer(3);
  network.propose("a");
  expect(third.node.commitIndex).toBe(2);
  third.disk.hardState = { ...third.disk.hardState, commit: 0 };
  network.leader.propose("b");
  network.process(1);
  network.deliver();
  const { ready } = third.takeReady();
  expect([ready.entries.map(({ index }) => index), ready.hardState]).toEqual([[3], { term: 1, vote: 1, commit: 2 }]);
});

test("membership: a change is applied only when its commit index is on disk", () => {
  const network = RaftNetwork.led(3);
  propose(network, [learn(4)]);
  network.process(1);
  network.deliver();
  const second = network.peer(2);
  network.process(2);
  network.deliver();
  network.process(1);
  network.deliver();
  const { ready } = second.takeReady();
  expect([second.node.commitIndex, ready.committedTo, ready.mustSync, ready.hardState?.commit]).toEqual([2, 1, true, 2]);
  second.finishWrite();
  expect(second.takeReady().ready.committedTo).toBe(2);
});
