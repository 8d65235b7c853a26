// Who stands for election when: real replicas, a clock and a network in the test's hands.

import { expect, test } from "vitest";
import { replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { CAMPAIGNS_MAX } from "../../src/base/limits.ts";
import { Prng } from "../../src/base/prng.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { RaftNode } from "../../src/raft/raft-node.ts";
import { Message, MSG_PRE_VOTE_RESPONSE, ROLE_FOLLOWER } from "../../src/raft/types.ts";
import { Digest } from "../../src/replica/digest.ts";
import { Elections } from "../../src/replica/elections.ts";
import { Replica } from "../../src/replica/replica.ts";
import { DURABILITY_FSYNC } from "../../src/replica/types.ts";
import { TestClock } from "../support/test-clock.ts";

const VOTERS = [1, 2, 3].map((node) => replicaId(node as NodeId, 0));
const CONFIGURATION = { voters: VOTERS, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
const ELECTION_TIMEOUT_MS = 500;

class Setting {
  readonly clock = new TestClock();
  readonly asleep = new Set<Replica>();
  readonly up = new Set([1, 3]);
  /** This node still misses entries. */
  isBehind = false;
  readonly elections: Elections;

  /** Of node 1. */
  constructor() {
    this.elections = new Elections({
      clock: this.clock,
      random: new Prng(1),
      electionTimeoutMs: ELECTION_TIMEOUT_MS,
      isUp: (node) => this.up.has(node),
      touched: (replica) => this.asleep.delete(replica),
      sleep: (replica) => this.asleep.add(replica),
      yields: () => this.isBehind,
    });
  }

  replica(group: number, term: number, isPreferred = false): Replica {
    const raft = new RaftNode(
      {
        id: VOTERS[0]!,
        electionTicks: 10,
        heartbeatTicks: 2,
        preVote: true,
        checkQuorum: true,
        inflightMessagesMax: 8,
        inflightBytesMax: 1024,
        appendBytesMax: 1024,
        uncommittedBytesMax: 1024,
      },
      { random: new Prng(group), entryBytes: () => 0 },
      {
        hardState: { term, vote: 0, commit: 1 },
        configuration: CONFIGURATION,
        compacted: { index: 1, term: 0 },
        termRuns: [],
        lastIndex: 1,
        applied: 1,
      },
    );
    return new Replica(
      {
        group: group as GroupId,
        kind: "stream",
        self: VOTERS[0]!,
        members: CONFIGURATION,
        preferred: isPreferred,
        durability: DURABILITY_FSYNC,
      },
      raft,
      new StreamMachine(),
      { applied: 1, timeMs: 0, configuration: CONFIGURATION, hardState: { term, vote: 0, commit: 1 }, digest: new Digest(1, null) },
    );
  }

  /** Those whose turn comes first among nodes 1 and 3, so on this node: even numbers. */
  orphans(count: number): Replica[] {
    return Array.from({ length: count }, (_, at) => this.replica((at + 1) * 2, 5));
  }
}

const standing = (replicas: readonly Replica[]): Replica[] => replicas.filter(({ raft }) => raft.role !== ROLE_FOLLOWER);

/** Node 3 refuses its vote: the candidacy ends. */
function refuse(replica: Replica): void {
  const answer = new Message(MSG_PRE_VOTE_RESPONSE, VOTERS[2]!, VOTERS[0]!, replica.raft.term);
  answer.reject = true;
  const other = new Message(MSG_PRE_VOTE_RESPONSE, VOTERS[1]!, VOTERS[0]!, replica.raft.term);
  other.reject = true;
  replica.raft.step(answer);
  replica.raft.step(other);
}

test("of many groups that lose their leader so many stand at once, the others sleep until there is room", () => {
  const { elections, asleep, clock } = new Setting();
  const setting = { elections, asleep, clock };
  const orphans = new Setting().orphans(CAMPAIGNS_MAX * 3);
  setting.elections.leaderless(orphans);
  clock.advance(20);
  elections.pump();
  expect(standing(orphans)).toHaveLength(CAMPAIGNS_MAX);
  expect(asleep.size).toBe(CAMPAIGNS_MAX * 2);
  clock.advance(20);
  elections.pump();
  expect(standing(orphans)).toHaveLength(CAMPAIGNS_MAX);
  // The first ones are done: as many follow.
  const first = standing(orphans);
  for (const replica of first) refuse(replica);
  elections.pump();
  const second = standing(orphans);
  expect(second).toHaveLength(CAMPAIGNS_MAX);
  expect(second.some((replica) => first.includes(replica))).toBe(false);
  // Those that nobody answers give up their places after an election timeout, and the last follow.
  clock.advance(ELECTION_TIMEOUT_MS + 1);
  elections.pump();
  expect(asleep.size).toBe(0);
  expect(elections.counts).toEqual({ waiting: 0, standing: CAMPAIGNS_MAX });
});

test("a replica that would stand by itself waits while all places are taken", () => {
  const { elections, clock } = new Setting();
  const orphans = new Setting().orphans(CAMPAIGNS_MAX);
  const other = new Setting().replica(999, 5);
  expect(elections.mayTick(other)).toBe(true);
  elections.leaderless(orphans);
  clock.advance(20);
  elections.pump();
  expect(elections.mayTick(other)).toBe(false);
  expect(elections.mayTick(orphans[0]!)).toBe(true);
  refuse(orphans[0]!);
  elections.pump();
  expect(elections.mayTick(other)).toBe(true);
  other.raft.campaign();
  elections.ticked(other);
  expect(elections.counts.standing).toBe(CAMPAIGNS_MAX);
});

test("survivors take turns, and the second waits the longer the more groups the first has to see to", () => {
  const alone = new Setting();
  const second = alone.replica(1, 5);
  alone.elections.leaderless([second]);
  alone.clock.advance(20);
  alone.elections.pump();
  expect(standing([second])).toEqual([]);
  alone.clock.advance(50);
  alone.elections.pump();
  expect(standing([second])).toEqual([second]);

  const crowd = new Setting();
  const thousand = Array.from({ length: 1_000 }, (_, at) => crowd.replica(at * 2 + 1, 5));
  crowd.elections.leaderless(thousand);
  crowd.clock.advance(200);
  crowd.elections.pump();
  expect(standing(thousand)).toEqual([]);
});

test("whoever has a leader by its turn, or sees a later term, does not stand", () => {
  const { elections, clock } = new Setting();
  const second = new Setting().replica(1, 5);
  elections.leaderless([second]);
  const vote = new Message(MSG_PRE_VOTE_RESPONSE, VOTERS[2]!, VOTERS[0]!, 9);
  vote.reject = true;
  second.raft.step(vote);
  expect(second.raft.term).toBe(9);
  clock.advance(1_000);
  elections.pump();
  expect(standing([second])).toEqual([]);
});

test("the preferred leader of a new group stands at once, every other opened replica only after an election timeout", () => {
  const { elections, clock, asleep } = new Setting();
  const preferred = new Setting().replica(1, 0, true);
  const known = new Setting().replica(2, 3, true);
  elections.opened(preferred);
  elections.opened(known);
  expect(standing([preferred, known])).toEqual([preferred]);
  expect(asleep.has(known)).toBe(true);
  clock.advance(ELECTION_TIMEOUT_MS - 1);
  elections.pump();
  expect(standing([known])).toEqual([]);
  clock.advance(ELECTION_TIMEOUT_MS + 10);
  elections.pump();
  expect(standing([known])).toEqual([known]);
});

test("nobody stands where no majority is alive", () => {
  const setting = new Setting();
  setting.up.clear();
  const replica = setting.replica(2, 5);
  expect(setting.elections.canBeWon(replica)).toBe(false);
  setting.elections.leaderless([replica]);
  setting.clock.advance(1_000);
  setting.elections.pump();
  expect(standing([replica])).toEqual([]);
  setting.up.add(3);
  expect(setting.elections.canBeWon(replica)).toBe(true);
});
