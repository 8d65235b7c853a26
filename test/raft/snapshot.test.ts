import { expect, test } from "vitest";
import {
  MSG_APPEND_RESPONSE,
  MSG_SNAPSHOT,
  PROGRESS_PROBE,
  PROGRESS_REPLICATE,
  PROGRESS_SNAPSHOT,
  ROLE_LEADER,
  type Message,
  type ProgressStatus,
} from "../../src/raft/types.ts";
import { newAppend, newEntries, newMessage, RaftNetwork } from "../support/raft-network.ts";
import { members, RaftPeer, type Checkpoint } from "../support/raft-peer.ts";

const progress = (network: RaftNetwork, peer: number): ProgressStatus => network.leader.node.status().find((one) => one.peer === peer)!;

/** Replica 3 missed so much that the leader's log no longer reaches back to it. */
function lagging(): RaftNetwork {
  const network = RaftNetwork.led(3);
  network.isolate(3);
  for (const text of ["a", "b", "c"]) network.propose(text);
  network.leader.compact();
  network.propose("d");
  network.heal();
  return network;
}

function snapshotMessage(to: number, checkpoint: Checkpoint, term = 5): { message: Message; checkpoint: Checkpoint } {
  const { index, configuration } = checkpoint;
  return {
    message: newMessage(MSG_SNAPSHOT, 1, to, term, {
      index,
      logTerm: checkpoint.term,
      snapshot: { index, term: checkpoint.term, configuration },
    }),
    checkpoint,
  };
}

test("snapshot: a follower behind the log gets one, then appends", () => {
  const network = lagging();
  network.tick(1);
  network.settle();
  expect(network.sentOf(MSG_SNAPSHOT).length).toBe(1);
  expect(network.peer(3).values).toEqual(["a", "b", "c", "d"]);
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_REPLICATE, match: 5, next: 6, pendingSnapshot: 0 });
  expect(network.peer(3).disk.log.base.index).toBeGreaterThanOrEqual(4);
});

test("snapshot: the log is replaced in the same write as its place, and answered only after it", () => {
  const network = lagging();
  network.slowDisks.add(3);
  network.tick(1);
  network.settle();
  const ready = network.peer(3).readies.find(({ snapshot }) => snapshot !== null)!;
  expect(ready).toMatchObject({ mustSync: true, entries: [], hardState: { term: 1, commit: ready.snapshot!.index } });
  expect(ready.messagesAfterPersist.at(-1)).toMatchObject({ kind: MSG_APPEND_RESPONSE, index: ready.snapshot!.index });
  expect(progress(network, 3).state).toBe(PROGRESS_SNAPSHOT);
  network.finishWrites(3);
  network.slowDisks.delete(3);
  network.settle();
  expect(network.peer(3).values).toEqual(["a", "b", "c", "d"]);
});

test("snapshot: none for a member that does not answer", () => {
  const network = lagging();
  network.isolate(3);
  network.tickAll(30);
  network.leader.node.reportUnreachable(3);
  network.propose("e");
  expect(network.sentOf(MSG_SNAPSHOT)).toEqual([]);
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_PROBE, recentActive: false });
  expect(network.leader.id).toBe(1);
});

test("snapshot: while one is under way nothing else is sent; when it failed, a heartbeat starts the next", () => {
  const network = lagging();
  network.loses = ({ kind }) => kind === MSG_SNAPSHOT;
  network.tick(1);
  network.settle();
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_SNAPSHOT, paused: true });
  const before = network.sent.length;
  network.propose("e");
  expect(network.sent.slice(before).filter(({ to, kind }) => to === 3 && kind !== 7)).toEqual([]);
  network.leader.node.snapshotSent(3, false);
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_PROBE, next: 2, paused: true });
  network.heal();
  network.tick(1);
  network.settle();
  expect(network.peer(3).values).toEqual(["a", "b", "c", "d", "e"]);
});

test("snapshot: when it has left, the leader probes right after it", () => {
  const network = lagging();
  network.loses = ({ kind }) => kind === MSG_SNAPSHOT;
  network.tick(1);
  network.settle();
  const { pendingSnapshot } = progress(network, 3);
  network.leader.node.snapshotSent(3, true);
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_PROBE, next: pendingSnapshot + 1, paused: true });
  for (const stranger of [2, 9]) network.leader.node.snapshotSent(stranger, true);
  network.heal();
  network.tickAll(3);
  expect(network.peer(3).values, "it was lost after all, and is sent again").toEqual(["a", "b", "c", "d"]);
});

test("snapshot: an answer from which the log can go on ends it, whatever the snapshot's own place", () => {
  const network = lagging();
  network.loses = ({ kind }) => kind === MSG_SNAPSHOT;
  network.tick(1);
  network.settle();
  network.leader.node.step(newMessage(MSG_APPEND_RESPONSE, 3, 1, 1, { index: 2 }));
  expect(progress(network, 3), "still before the log").toMatchObject({ state: PROGRESS_SNAPSHOT, match: 2 });
  network.leader.node.step(newMessage(MSG_APPEND_RESPONSE, 3, 1, 1, { index: 4 }));
  expect(progress(network, 3)).toMatchObject({ state: PROGRESS_REPLICATE, match: 4 });
});

for (const { name, index, term, restored, answer } of [
  { name: "beyond the log is installed", index: 9, term: 4, restored: true, answer: 9 },
  { name: "of another term at its place is installed", index: 3, term: 4, restored: true, answer: 3 },
  { name: "that the log contains only moves the commit index", index: 3, term: 2, restored: false, answer: 3 },
  { name: "from before the commit index is answered with that", index: 1, term: 1, restored: false, answer: 2 },
]) {
  test(`snapshot: one ${name}`, () => {
    const configuration = members([1, 2, 3]);
    const peer = new RaftPeer(2, { start: { index: 0, term: 0, configuration, history: [] } });
    peer.node.step(newAppend(1, 2, 2, 0, 0, newEntries(1, 1, 1, 2, 2), 2));
    peer.takeReady();
    peer.finishWrite();
    peer.receive(snapshotMessage(2, { index, term, configuration, history: newEntries(1, ...Array.from({ length: index }, () => 1)) }));
    const { ready } = peer.takeReady();
    expect(ready.snapshot?.index).toBe(restored ? index : undefined);
    expect(peer.finishWrite().at(-1)!.message).toMatchObject({ kind: MSG_APPEND_RESPONSE, index: answer, reject: false });
    expect([peer.node.lastIndex, peer.node.termAt(index)]).toEqual(restored ? [index, term] : [4, index === 1 ? 1 : 2]);
  });
}

test("snapshot: it brings the members, and a restart keeps them", () => {
  const peer = new RaftPeer(4);
  expect(peer.node.configuration.voters).toEqual([]);
  const configuration = { ...members([1, 2, 4], [5]), votersOutgoing: [1, 2, 3], learnersNext: [3], autoLeave: true };
  peer.receive(snapshotMessage(4, { index: 6, term: 3, configuration, history: newEntries(1, 1, 1, 1, 1, 1, 3) }));
  peer.takeReady();
  peer.finishWrite();
  expect(peer.node.configuration).toEqual(configuration);
  peer.restart();
  expect(peer.node).toMatchObject({ configuration, applied: 6, commitIndex: 6, lastIndex: 6, firstIndex: 7, term: 5 });
});

test("snapshot: of an older term it is ignored, and a leader takes none", () => {
  const network = RaftNetwork.led(3);
  const checkpoint = { index: 9, term: 1, configuration: members([1, 2, 3]), history: newEntries(1, 1, 1, 1, 1, 1, 1, 1, 1, 1) };
  network.peer(2).receive(snapshotMessage(2, checkpoint, 0));
  network.peer(1).receive(snapshotMessage(1, checkpoint, 1));
  network.settle();
  expect([...network.peers.values()].map(({ node }) => node.lastIndex)).toEqual([1, 1, 1]);
  expect(network.peer(1).node.role).toBe(ROLE_LEADER);
});

test("snapshot: what the host applied before it installed one does not undo it", () => {
  const configuration = members([1, 2, 3]);
  const peer = new RaftPeer(2, { start: { index: 0, term: 0, configuration, history: [] } });
  peer.node.step(newAppend(1, 2, 2, 0, 0, newEntries(1, 1, 1, 2), 2));
  peer.takeReady();
  peer.finishWrite();
  const later = members([1, 2, 4]);
  peer.receive(snapshotMessage(2, { index: 9, term: 2, configuration: later, history: newEntries(1, 1, 1, 2, 2, 2, 2, 2, 2, 2) }));
  // The host still works through what it was given before.
  peer.node.appliedTo(1);
  expect(peer.node.applyChange({ transition: "auto", changes: [{ kind: 0, peer: 3 }] })).toEqual(later);
  peer.takeReady();
  expect([peer.node.applied, peer.node.configuration]).toEqual([9, later]);
  expect(() => peer.node.appliedTo(2)).toThrow("only rises");
});

test("snapshot: a cut log still knows its last term, and refuses a wrong cut", () => {
  const network = RaftNetwork.led(3);
  for (const text of ["a", "b"]) network.propose(text);
  const { node } = network.leader;
  expect(() => node.compact(4, 1)).toThrow("only applied");
  expect(() => node.compact(2, 9)).toThrow("where the log says");
  node.compact(3, 1);
  expect([node.firstIndex, node.termAt(2), node.termAt(3), node.termAt(4)]).toEqual([4, -1, 1, -1]);
  node.compact(2, 1);
  expect(node.firstIndex, "an older cut changes nothing").toBe(4);
  network.propose("c");
  expect(network.peer(3).values).toEqual(["a", "b", "c"]);
});
