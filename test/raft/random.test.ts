// Seeded schedules of loss, duplication, reordering, crashes, transfers and membership changes over bare cores. After
// every step: one leader per term, equal logs up to the commit index, nothing committed is ever lost.

import { expect, test } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { decodeChange } from "../../src/raft/configuration-codec.ts";
import { RaftNode } from "../../src/raft/raft-node.ts";
import {
  ENTRY_CONFIGURATION,
  ENTRY_RECORDS,
  MSG_APPEND,
  MSG_SNAPSHOT,
  ROLE_LEADER,
  type Configuration,
  type Entry,
  type HardState,
  type Message,
  type TermRun,
} from "../../src/raft/types.ts";

type Write = {
  readonly sequence: number;
  readonly entries: readonly Entry[];
  readonly hardState: HardState | null;
  readonly after: readonly Message[];
};

/** A replica with a disk: what is not written when it crashes is gone. */
class Replica {
  readonly id: number;
  private readonly random: Prng;
  private readonly initial: Configuration;
  log: Entry[] = [];
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  /** Entries as the core sees them, durable or not. */
  view: Entry[] = [];
  writes: Write[] = [];
  raft!: RaftNode;
  isUp = true;

  constructor(id: number, configuration: Configuration, random: Prng) {
    this.id = id;
    this.random = random;
    this.initial = configuration;
    this.start();
  }

  start(): void {
    const termRuns: TermRun[] = [];
    for (const { term, index } of this.log) if (termRuns[termRuns.length - 1]?.term !== term) termRuns.push({ term, firstIndex: index });
    this.view = [...this.log];
    this.writes = [];
    this.raft = new RaftNode(
      {
        id: this.id,
        electionTicks: 10,
        heartbeatTicks: 2,
        preVote: true,
        checkQuorum: true,
        inflightMessagesMax: 4,
        inflightBytesMax: 1_000,
        appendBytesMax: 40,
        uncommittedBytesMax: 100_000,
      },
      { random: this.random, entryBytes: () => 10 },
      {
        hardState: { ...this.hardState, commit: Math.min(this.hardState.commit, this.log.length) },
        configuration: this.initial,
        compacted: { index: 0, term: 0 },
        termRuns,
        lastIndex: this.log.length,
        applied: 0,
      },
    );
    this.isUp = true;
  }
}

class Cluster {
  readonly replicas: Replica[];
  readonly random: Prng;
  private readonly leaders = new Map<number, number>();
  /** What was committed once, by index: it must stay. */
  readonly committed: Entry[] = [];
  private wire: Message[] = [];
  private nextPayload = 0;

  constructor(seed: number) {
    this.random = new Prng(seed);
    const count = 3 + this.random.below(3);
    const configuration = {
      voters: Array.from({ length: count }, (_, at) => at + 1),
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    };
    this.replicas = configuration.voters.map((id) => new Replica(id, configuration, this.random));
  }

  step(faults: boolean): void {
    const replica = this.replicas[this.random.below(this.replicas.length)]!;
    const dice = this.random.below(100);
    // Giving memory back changes nothing, whenever it is done.
    if (replica.isUp && this.random.below(10) === 0) replica.raft.slimDown();
    if (faults && dice < 2) this.crash(replica);
    else if (!replica.isUp) {
      if (!faults || dice < 20) replica.start();
    } else if (dice < 25) replica.raft.tick();
    else if (dice < 35) this.propose(replica);
    else if (faults && dice < 37) this.change(replica);
    else if (faults && dice < 38) replica.raft.transferLeadership(1 + this.random.below(this.replicas.length));
    else if (dice < 60) this.finishWrite(replica);
    else if (this.wire.length > 0) this.deliver(faults);
    for (const each of this.replicas) if (each.isUp) this.collect(each);
    this.check();
  }

  private propose(replica: Replica): void {
    const payload = new TextEncoder().encode(`p${this.nextPayload++}`);
    replica.raft.propose(ENTRY_RECORDS, 0, [{ payload, crc: 0 }]);
  }

  /** Removes or adds back a random member, alone or two at a time. */
  private change(replica: Replica): void {
    if (replica.raft.role !== ROLE_LEADER) return;
    const { configuration } = replica.raft;
    if (configuration.votersOutgoing.length > 0) {
      replica.raft.proposeChange({ transition: "auto", changes: [] }, 0);
      return;
    }
    const changes = Array.from({ length: 1 + this.random.below(2) }, () => {
      const peer = 1 + this.random.below(this.replicas.length);
      return { kind: configuration.voters.includes(peer) ? ([1, 2] as const)[this.random.below(2)]! : 0, peer } as const;
    });
    const leaving = new Set(changes.filter(({ kind }) => kind !== 0).map(({ peer }) => peer));
    if (configuration.voters.filter((peer) => !leaving.has(peer)).length >= 2)
      replica.raft.proposeChange({ transition: "auto", changes }, 0);
  }

  private crash(replica: Replica): void {
    // Some of the writes under way made it to the disk, in order; their answers did not leave.
    const made = this.random.below(replica.writes.length + 1);
    for (const write of replica.writes.slice(0, made)) this.store(replica, write);
    replica.isUp = false;
  }

  private store(replica: Replica, { entries, hardState }: Write): void {
    if (entries.length > 0) replica.log = [...replica.log.slice(0, entries[0]!.index - 1), ...entries];
    if (hardState !== null) replica.hardState = hardState;
  }

  private finishWrite(replica: Replica): void {
    const write = replica.writes.shift();
    if (write === undefined) return;
    this.store(replica, write);
    if (write.sequence !== 0) replica.raft.persisted(write.sequence);
    for (const message of write.after) this.send(replica, message);
  }

  private send(replica: Replica, message: Message): void {
    if (message.kind === MSG_SNAPSHOT) return;
    if (message.kind === MSG_APPEND) message.entries = replica.view.slice(message.index, message.lastEntry);
    this.wire.push(message);
  }

  private deliver(faults: boolean): void {
    const at = faults ? this.random.below(this.wire.length) : 0;
    const message = this.wire[at]!;
    const fate = this.random.below(20);
    if (!(faults && fate === 0)) this.wire.splice(at, 1); // Otherwise it is delivered again later.
    if (faults && fate === 1) return;
    const target = this.replicas[message.to - 1];
    if (target?.isUp === true) target.raft.step(message);
  }

  private collect(replica: Replica): void {
    while (replica.raft.hasReady()) {
      const ready = replica.raft.ready();
      if (ready.entries.length > 0) replica.view = [...replica.view.slice(0, ready.entries[0]!.index - 1), ...ready.entries];
      for (const message of ready.messages) this.send(replica, message);
      replica.writes.push({
        sequence: ready.writeSequence,
        entries: ready.entries,
        hardState: ready.hardState,
        after: ready.messagesAfterPersist,
      });
      for (let index = replica.raft.applied + 1; index <= ready.committedTo; index++) this.apply(replica, index);
    }
  }

  private apply(replica: Replica, index: number): void {
    const entry = replica.log[index - 1];
    if (entry === undefined) throw new Error(`replica ${replica.id} is to apply ${index}, which is not on its disk`);
    const known = this.committed[index - 1];
    if (known === undefined) this.committed[index - 1] = entry;
    else if (known.term !== entry.term || known.payload !== entry.payload)
      throw new Error(`entry ${index} was committed as ${known.term} and as ${entry.term}`);
    if (entry.kind === ENTRY_CONFIGURATION) replica.raft.applyChange(decodeChange(entry.payload));
    replica.raft.appliedTo(index);
  }

  private check(): void {
    for (const { id, raft, isUp, view } of this.replicas) {
      if (!isUp || raft.role !== ROLE_LEADER) continue;
      const known = this.leaders.get(raft.term);
      if (known !== undefined && known !== id) throw new Error(`R1: ${known} and ${id} both lead in term ${raft.term}`);
      if (known === undefined) {
        this.leaders.set(raft.term, id);
        // Leader completeness: whoever is elected has all that was committed.
        for (const entry of this.committed)
          if (view[entry.index - 1]?.term !== entry.term)
            throw new Error(`R2: leader ${id} of term ${raft.term} lacks entry ${entry.index}`);
      }
    }
  }
}

test("raft: 2,000 seeds of faults keep one leader per term, equal logs and every committed entry", { timeout: 120_000 }, () => {
  let committed = 0;
  for (let seed = 1; seed <= 2_000; seed++) {
    const cluster = new Cluster(seed);
    try {
      for (let step = 0; step < 2_000; step++) cluster.step(true);
      const before = cluster.committed.length;
      // Without faults the group must go on.
      for (let step = 0; step < 6_000 && cluster.committed.length < before + 5; step++) cluster.step(false);
      expect(cluster.committed.length, `seed ${seed}: progress after the faults`).toBeGreaterThanOrEqual(before + 5);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
    committed += cluster.committed.length;
  }
  expect(committed).toBeGreaterThan(20_000);
});
