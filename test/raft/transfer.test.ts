import { expect, test } from "vitest";
import { MSG_PRE_VOTE, MSG_TIMEOUT_NOW, MSG_VOTE, PROPOSE_TRANSFERRING, ROLE_LEADER } from "../../src/raft/types.ts";
import { newMessage, RaftNetwork } from "../support/raft-network.ts";

test("transfer: an up-to-date follower takes over at once, without pre-vote and in spite of the lease", () => {
  const network = RaftNetwork.led(3);
  const before = network.sentOf(MSG_PRE_VOTE).length;
  expect(network.leader.node.transferLeadership(3)).toBe(true);
  network.settle();
  expect(network.leader).toMatchObject({ id: 3 });
  expect(network.leader.node.term).toBe(2);
  expect(network.sentOf(MSG_PRE_VOTE).length).toBe(before);
  expect(
    network
      .sentOf(MSG_VOTE)
      .filter(({ from }) => from === 3)
      .map(({ context }) => context),
  ).toEqual([1, 1]);
  expect(network.peer(1).node.leader).toBe(3);
});

test("transfer: a follower that lags is brought up to date first", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.propose("a");
  network.propose("b");
  network.heal();
  network.leader.node.transferLeadership(3);
  expect(network.sentOf(MSG_TIMEOUT_NOW)).toEqual([]);
  network.tick(1);
  network.settle();
  expect(network.leader.id).toBe(3);
  expect(network.leader.values).toEqual(["a", "b"]);
});

test("transfer: a follower that needs a snapshot gets it, then leads", () => {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  network.propose("a");
  network.leader.compact();
  network.heal();
  network.leader.node.transferLeadership(3);
  network.tickAll(3);
  expect(network.leader.id).toBe(3);
});

test("transfer: proposals are refused meanwhile, and accepted again after an election timeout without success", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  network.loses = ({ to, from }) => to === 3 || from === 3;
  node.transferLeadership(3);
  network.settle();
  expect(node.propose(1, 0, [{ payload: new Uint8Array(1), crc: 0 }])).toBe(PROPOSE_TRANSFERRING);
  network.tickAll(10);
  expect(node.role).toBe(ROLE_LEADER);
  expect(network.leader.propose("again")).toBe(true);
});

test("transfer: another target replaces the first, the same one changes nothing", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  network.loses = ({ to, from }) => to === 3 || from === 3;
  expect([node.transferLeadership(3), node.transferLeadership(3)]).toEqual([true, true]);
  network.settle();
  expect(network.sentOf(MSG_TIMEOUT_NOW).filter(({ to }) => to === 3).length).toBe(1);
  node.transferLeadership(2);
  network.settle();
  expect(network.leader.id).toBe(2);
});

test("transfer: not to itself, to a learner, to a stranger, nor by a follower", () => {
  const network = RaftNetwork.led(4, { learners: [4] });
  const { node } = network.leader;
  expect([1, 4, 9].map((to) => node.transferLeadership(to))).toEqual([false, false, false]);
  expect(network.peer(2).node.transferLeadership(3)).toBe(false);
});

test("transfer: a target that was removed meanwhile ends it", () => {
  const network = RaftNetwork.led(3);
  const { node } = network.leader;
  network.slowDisks.add(3);
  node.proposeChange({ transition: "auto", changes: [{ kind: 2, peer: 3 }] }, 0);
  network.loses = ({ to }) => to === 3;
  node.transferLeadership(3);
  network.settle();
  expect(node.configuration.voters).toEqual([1, 2]);
  expect(network.leader.propose("goes on")).toBe(true);
});

test("transfer: an order of an older term is ignored, and a learner does not obey one", () => {
  const network = RaftNetwork.led(3, { learners: [3] });
  network.peer(2).node.step(newMessage(MSG_TIMEOUT_NOW, 1, 2, 0));
  network.peer(3).node.step(newMessage(MSG_TIMEOUT_NOW, 1, 3, 1));
  network.settle();
  expect([...network.peers.values()].map(({ node }) => node.term)).toEqual([1, 1, 1]);
});
