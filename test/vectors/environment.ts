// A group of cores with a log in memory, driven by the commands of the interaction vectors.

import { decodeChange } from "../../src/raft/configuration-codec.ts";
import { EMPTY_CONFIGURATION } from "../../src/raft/membership.ts";
import { RaftNode } from "../../src/raft/raft-node.ts";
import {
  ENTRY_CONFIGURATION,
  ENTRY_RECORDS,
  MSG_APPEND,
  ROLE_CANDIDATE,
  ROLE_LEADER,
  ROLE_PRE_CANDIDATE,
  type Configuration,
  type Entry,
  type Message,
  type Transition,
} from "../../src/raft/types.ts";
import { changesOf, describeEntry, describeProgress } from "./describe.ts";
import { numbers, type Directive } from "./datadriven.ts";

const ELECTION_TICKS = 3;

export type Member = { readonly id: number; raft: RaftNode; log: Entry[]; readonly applied: string[]; timeout: { value: number } };

export class Environment {
  readonly members = new Map<number, Member>();
  private messages: Message[] = [];

  /** Runs one command; returns the output of those that show state, null for the others. */
  run(directive: Directive): string[] | null {
    const { command, words, args } = directive;
    const ids = words.map(Number);
    const member = this.members.get(ids[0] ?? 0);
    switch (command) {
      case "add-nodes":
        for (let count = Number(words[0]); count > 0; count--) this.add(args);
        return null;
      case "campaign":
        member!.raft.campaign();
        return null;
      case "propose":
        member!.raft.propose(ENTRY_RECORDS, 0, [{ payload: new TextEncoder().encode(words[1]), crc: 0 }]);
        return null;
      case "propose-conf-change":
        this.proposeChange(member!, args.get("transition")?.[0], directive.input.join(" "));
        return null;
      case "process-ready":
        for (const id of ids) this.process(this.members.get(id)!);
        return null;
      case "deliver-msgs":
        this.deliver(ids, numbers(args.get("drop")));
        return null;
      case "stabilize":
        this.stabilize(ids.length > 0 ? ids : [...this.members.keys()]);
        return null;
      case "tick-election":
        for (let tick = 0; tick < ELECTION_TICKS; tick++) member!.raft.tick();
        return null;
      case "tick-heartbeat":
        member!.raft.tick();
        return null;
      case "transfer-leadership":
        this.members.get(Number(args.get("from")![0]))!.raft.transferLeadership(Number(args.get("to")![0]));
        return null;
      case "set-randomized-election-timeout":
        member!.timeout.value = Number(args.get("timeout")![0]);
        return null;
      case "compact":
        member!.raft.compact(ids[1]!, member!.raft.termAt(ids[1]!));
        member!.log = member!.log.filter(({ index }) => index > ids[1]!);
        return member!.log.map(describeEntry);
      case "raft-log":
        return member!.log.map(describeEntry);
      case "raft-state":
        return [...this.members.values()].map((each) => stateOf(each));
      case "status":
        return member!.raft.status().map(describeProgress);
      case "log-level":
        return null;
      default:
        throw new Error(`unknown command ${command}`);
    }
  }

  private add(args: Directive["args"]): void {
    const id = this.members.size + 1;
    const flag = (name: string): boolean => args.get(name)?.[0] === "true";
    const index = Number(args.get("index")?.[0] ?? 0);
    const configuration: Configuration = {
      ...EMPTY_CONFIGURATION,
      voters: numbers(args.get("voters")),
      learners: numbers(args.get("learners")),
    };
    const timeout = { value: 2 * ELECTION_TICKS - 1 };
    const log: Entry[] = [];
    const raft = new RaftNode(
      {
        id,
        electionTicks: ELECTION_TICKS,
        heartbeatTicks: 1,
        preVote: flag("prevote"),
        checkQuorum: flag("checkquorum"),
        inflightMessagesMax: Number(args.get("inflight")?.[0] ?? 1_000_000),
        inflightBytesMax: Number.MAX_SAFE_INTEGER,
        appendBytesMax: Number.MAX_SAFE_INTEGER,
        uncommittedBytesMax: Number.MAX_SAFE_INTEGER,
        stepDownOnRemoval: false,
      },
      { random: { below: () => timeout.value - ELECTION_TICKS }, entryBytes: () => 1 },
      {
        hardState: { term: 0, vote: 0, commit: index },
        configuration,
        compacted: { index, term: index === 0 ? 0 : 1 },
        termRuns: [],
        lastIndex: index,
        applied: index,
      },
    );
    this.members.set(id, { id, raft, log, applied: [], timeout });
  }

  private proposeChange(member: Member, transition: string | undefined, text: string): void {
    const kinds: Readonly<Record<string, Transition>> = { explicit: "jointExplicit", implicit: "jointImplicit" };
    const change = { transition: kinds[transition ?? ""] ?? "auto", changes: changesOf(text) } as const;
    // What cannot be proposed goes into the log as an empty entry: the vectors' core does so, ours leaves it to the host.
    if (member.raft.proposeChange(change, 0) !== 0) member.raft.propose(ENTRY_RECORDS, 0, [{ payload: new Uint8Array(0), crc: 0 }]);
  }

  /** One Ready: write, send, apply. */
  private process(member: Member): void {
    const { raft } = member;
    if (!raft.hasReady()) return;
    const ready = raft.ready();
    if (ready.snapshot !== null) member.log = [];
    if (ready.entries.length > 0) member.log = [...member.log.filter(({ index }) => index < ready.entries[0]!.index), ...ready.entries];
    const send = (message: Message): void => {
      if (message.kind === MSG_APPEND)
        message.entries = member.log.filter(({ index }) => index > message.index && index <= message.lastEntry);
      this.messages.push(message);
    };
    for (const message of ready.messages) send(message);
    if (ready.writeSequence !== 0) raft.persisted(ready.writeSequence);
    for (const message of ready.messagesAfterPersist) send(message);
    this.apply(member, ready.committedTo);
  }

  private apply(member: Member, to: number): void {
    for (let index = Math.max(member.raft.applied, 0) + 1; index <= to; index++) {
      const entry = member.log.find((one) => one.index === index);
      if (entry === undefined) continue; // Inside a snapshot.
      member.applied.push(describeEntry(entry));
      if (entry.kind === ENTRY_CONFIGURATION) member.raft.applyChange(decodeChange(entry.payload));
      member.raft.appliedTo(index);
    }
  }

  private deliver(to: readonly number[], drop: readonly number[]): void {
    const waiting = this.messages;
    this.messages = [];
    for (const message of waiting) {
      if (drop.includes(message.to)) continue;
      if (to.includes(message.to)) this.members.get(message.to)?.raft.step(message);
      else this.messages.push(message);
    }
  }

  private stabilize(ids: readonly number[]): void {
    for (let round = 0; round < 1_000; round++) {
      let idle = true;
      for (const id of ids) {
        const member = this.members.get(id)!;
        while (member.raft.hasReady()) {
          this.process(member);
          idle = false;
        }
      }
      for (const id of ids) {
        if (!this.messages.some(({ to }) => to === id)) continue;
        this.deliver([id], []);
        idle = false;
      }
      if (idle) return;
    }
    throw new Error("the group does not come to rest");
  }
}

export function stateOf({ id, raft }: Member): string {
  const role =
    raft.role === ROLE_LEADER
      ? "StateLeader"
      : raft.role === ROLE_CANDIDATE
        ? "StateCandidate"
        : raft.role === ROLE_PRE_CANDIDATE
          ? "StatePreCandidate"
          : "StateFollower";
  const { voters, votersOutgoing } = raft.configuration;
  const kind = voters.includes(id) || votersOutgoing.includes(id) ? "Voter" : "Non-Voter";
  return `${id}: ${role} (${kind}) Term:${raft.term} Lead:${raft.leader}`;
}
