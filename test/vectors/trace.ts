// Drives replicas by the directives of the interaction vectors and tells what happened in their words. Lines of logging
// (INFO, DEBUG, WARN) are no part of the answer.

import {
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT_RESPONSE,
  MSG_PRE_VOTE_RESPONSE,
  MSG_VOTE_RESPONSE,
  PROPOSE_OK,
  type HardState,
  type Message,
  type Ready,
  type SoftState,
  type Transition,
} from "../../src/raft/types.ts";
import { members, NO_MEMBERS, RaftPeer, type Mail } from "../support/raft-peer.ts";
import { numbers, type Directive } from "./datadriven.ts";
import { changesOf, describeEntry, describeProgress } from "./describe.ts";
import { describeMessage, describeSnapshot, ROLES } from "./trace-text.ts";

const ELECTION_TICKS = 3;
const RESPONSES: readonly number[] = [MSG_APPEND_RESPONSE, MSG_HEARTBEAT_RESPONSE, MSG_PRE_VOTE_RESPONSE, MSG_VOTE_RESPONSE];
const TRANSITIONS = new Map<string, Transition>([
  ["auto", "auto"],
  ["implicit", "jointImplicit"],
  ["explicit", "jointExplicit"],
]);
const STABILIZE_ROUNDS_MAX = 1_000;

type Shown = { soft: SoftState; hard: HardState };

export class TraceEnvironment {
  private readonly peers: RaftPeer[] = [];
  private readonly shown: Shown[] = [];
  private mail: Mail[] = [];
  private quiet = false;

  /** What a directive answers; nothing while logging is off. */
  run(directive: Directive): string[] {
    if (directive.command === "log-level") {
      this.quiet = directive.words[0] === "none";
      return [];
    }
    const lines = this.dispatch(directive);
    return this.quiet ? [] : lines;
  }

  private dispatch({ command, words, args, input }: Directive): string[] {
    const ids = command === "propose" ? [] : numbers(words);
    const first = (): RaftPeer => this.peer(ids[0]!);
    switch (command) {
      case "add-nodes":
        for (let count = ids[0]!; count > 0; count--) this.addNode(args);
        return [];
      case "campaign":
        first().node.campaign();
        return [];
      case "propose":
        return this.peer(Number(words[0])).propose(words[1]!) ? [] : ["raft proposal dropped"];
      case "propose-conf-change":
        return this.proposeChange(first(), args, input);
      case "process-ready":
        return ids.flatMap((id) => (ids.length > 1 ? [`> ${id} handling Ready`, ...indent(this.processReady(id))] : this.processReady(id)));
      case "deliver-msgs":
        return [...ids.flatMap((id) => this.deliver(id, false)), ...numbers(args.get("drop")).flatMap((id) => this.deliver(id, true))];
      case "stabilize":
        return this.stabilize(ids.length > 0 ? ids : this.peers.map(({ id }) => id));
      case "tick-election":
        for (let tick = 0; tick < ELECTION_TICKS; tick++) first().node.tick();
        return [];
      case "tick-heartbeat":
        first().node.tick();
        return [];
      case "set-randomized-election-timeout":
        // Every draw here is the longest possible already.
        if (Number(args.get("timeout")![0]) !== 2 * ELECTION_TICKS - 1) throw new Error("another election timeout than the longest");
        return [];
      case "transfer-leadership":
        this.peer(Number(args.get("from")![0])).node.transferLeadership(Number(args.get("to")![0]));
        return [];
      case "compact":
        first().compact(ids[1]!);
        return first().disk.log.entries.map(describeEntry);
      case "raft-log":
        return first().disk.log.entries.map(describeEntry);
      case "raft-state":
        return this.peers.map((peer) => this.describeState(peer));
      case "status":
        return first().node.status().map(describeProgress);
      default:
        throw new Error(`unknown directive ${command}`);
    }
  }

  private addNode(args: Directive["args"]): void {
    const voters = numbers(args.get("voters"));
    const learners = numbers(args.get("learners"));
    const index = numbers(args.get("index"))[0] ?? 0;
    const isTrue = (name: string): boolean => args.get(name)?.[0] === "true";
    const inflight = numbers(args.get("inflight"))[0] ?? Number.MAX_SAFE_INTEGER;
    const start = {
      index,
      term: index > 0 ? 1 : 0,
      configuration: voters.length > 0 ? members(voters, learners) : NO_MEMBERS,
      history: [],
    };
    const settings = {
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: 1,
      preVote: isTrue("prevote"),
      checkQuorum: isTrue("checkquorum"),
      inflightMessagesMax: inflight,
      inflightBytesMax: Number.MAX_SAFE_INTEGER,
      appendBytesMax: Number.MAX_SAFE_INTEGER,
      uncommittedBytesMax: Number.MAX_SAFE_INTEGER,
      // The vectors leave a removed leader in office; our default is that it steps down (test/raft/membership.test.ts).
      stepDownOnRemoval: false,
    };
    const peer = new RaftPeer(this.peers.length + 1, { settings, start, random: { below: (bound) => bound - 1 } });
    this.peers.push(peer);
    this.shown.push({ soft: peer.node.softState, hard: { term: 0, vote: 0, commit: index } });
  }

  // A change that is refused would go into the vectors' log as an empty entry; none is.
  private proposeChange({ node }: RaftPeer, args: Directive["args"], input: readonly string[]): string[] {
    const transition = TRANSITIONS.get(args.get("transition")?.[0] ?? "auto")!;
    const change = { transition, changes: changesOf(input.join(" ")) };
    return node.proposeChange(change, 0) === PROPOSE_OK ? [] : ["raft proposal dropped"];
  }

  /** One Ready: written, sent, and what was committed when it was taken is applied. */
  private processReady(id: number): string[] {
    const peer = this.peer(id);
    const { commitIndex } = peer.node;
    const { ready, mail } = peer.takeReady();
    const softState = peer.node.softState;
    // Entries count as applicable when they are durable; here the write ends at once.
    const durable = ready.entries.at(-1)?.index ?? peer.cache.lastIndex;
    const applied = peer.apply(Math.max(peer.applied, Math.min(commitIndex, durable)), false);
    const after = peer.finishWrite();
    peer.node.appliedTo(peer.applied);
    const all = [...mail, ...after];
    this.mail.push(...all);
    return this.describeReady(id, ready, {
      softState,
      commitIndex,
      applied: applied.map(describeEntry),
      messages: all.map(({ message }) => message),
    });
  }

  private describeReady(
    id: number,
    ready: Ready,
    seen: { softState: SoftState; commitIndex: number; applied: readonly string[]; messages: readonly Message[] },
  ): string[] {
    const shown = this.shown[id - 1]!;
    const hard = ready.hardState;
    // The vectors sync entries, terms and votes; we sync a snapshot and the commit of a membership change as well.
    const mustSync = ready.entries.length > 0 || (hard !== null && (hard.term !== shown.hard.term || hard.vote !== shown.hard.vote));
    if (mustSync && !ready.mustSync) throw new Error("a Ready that has to be synced does not say so");
    const lines = [`Ready MustSync=${mustSync}:`];
    const { role, leader } = seen.softState;
    if (role !== shown.soft.role || leader !== shown.soft.leader) lines.push(`Lead:${leader} State:${ROLES[role]}`);
    shown.soft = seen.softState;
    if (hard !== null && (hard.term !== shown.hard.term || hard.vote !== shown.hard.vote || hard.commit !== shown.hard.commit)) {
      lines.push(`HardState Term:${hard.term}${hard.vote === 0 ? "" : ` Vote:${hard.vote}`} Commit:${hard.commit}`);
      shown.hard = hard;
    }
    if (ready.entries.length > 0) lines.push("Entries:", ...ready.entries.map(describeEntry));
    if (ready.snapshot !== null) lines.push(`Snapshot ${describeSnapshot(ready.snapshot)}`);
    if (seen.applied.length > 0) lines.push("CommittedEntries:", ...seen.applied);
    if (seen.messages.length > 0) lines.push("Messages:", ...seen.messages.flatMap(describeMessage));
    return lines.length === 1 ? [] : lines;
  }

  private deliver(id: number, drop: boolean): string[] {
    const mine = this.mail.filter(({ message }) => message.to === id);
    this.mail = this.mail.filter(({ message }) => message.to !== id);
    const lines: string[] = [];
    for (const one of mine) {
      const { message } = one;
      const text = describeMessage(message);
      if (drop) {
        lines.push(`dropped: ${text[0]}`, ...text.slice(1));
        continue;
      }
      lines.push(...text);
      const peer = this.peer(id);
      const isKnown = peer.node.status().some((progress) => progress.peer === message.from);
      if (RESPONSES.includes(message.kind) && !isKnown) lines.push("raft: cannot step as peer not found");
      peer.receive(one);
    }
    return lines;
  }

  private stabilize(ids: readonly number[]): string[] {
    const lines: string[] = [];
    for (let round = 0; round < STABILIZE_ROUNDS_MAX; round++) {
      let done = true;
      for (const id of ids) {
        if (!this.peer(id).node.hasReady()) continue;
        done = false;
        const text = this.processReady(id);
        if (text.length > 0) lines.push(`> ${id} handling Ready`, ...indent(text));
      }
      for (const id of ids) {
        if (!this.mail.some(({ message }) => message.to === id)) continue;
        done = false;
        lines.push(`> ${id} receiving messages`, ...indent(this.deliver(id, false)));
      }
      if (done) return lines;
    }
    throw new Error("never comes to rest");
  }

  private describeState({ id, node }: RaftPeer): string {
    const { voters, votersOutgoing } = node.configuration;
    const voter = voters.includes(id) || votersOutgoing.includes(id) ? "Voter" : "Non-Voter";
    return `${id}: ${ROLES[node.role]} (${voter}) Term:${node.term} Lead:${node.leader}`;
  }

  private peer(id: number): RaftPeer {
    const peer = this.peers[id - 1];
    if (peer === undefined) throw new Error(`no replica ${id}`);
    return peer;
  }
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
