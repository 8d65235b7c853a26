// Brings a request to the leader of its group: here, on another node, or as soon as there is one. Only what was certainly
// not carried out is tried again; everything else comes back to the caller with its outcome.

import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { CATALOG_GROUP, type GroupId, type NodeId } from "../base/ids.ts";
import { WAITING_BYTES_MAX, WAITING_MAX } from "../base/limits.ts";
import { ENTRY_COMMAND, ENTRY_RECORDS, type EntryKind } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { HOST_DISK_FULL, HOST_LOST, HOST_NO_GROUP, HOST_NOT_LEADER, HOST_OVERLOADED, HOST_STOPPING } from "../replica/types.ts";
import { decodeOutcome, encodeOutcome } from "./forward-codec.ts";
import type { Forwarder, Serve } from "./forwarder.ts";
import type { Leaders } from "./leaders.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";

export const OP_PROPOSE = 1;
/** How long a request waits for an election before it fails with NO_LEADER. */
export const LEADER_WAIT_MS = 5_000;
/** A node that says it does not lead is asked again at the earliest after so long, unless news come first. */
const RETRY_MS = 20;

/** `code` is the machine's reply. `error` is set when there was none. */
export type ProposeOutcome = (error: BrokerError | null, code: number, value: number, detail: Uint8Array | null) => void;

type Attempt = {
  readonly run: (leader: NodeId) => void;
  readonly fail: (error: BrokerError) => void;
  readonly deadlineMs: number;
  /** Memory that it holds. */
  readonly bytes: number;
};

export type RouterComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly leaders: Leaders;
  readonly clock: Clock;
  /** Nobody will ever lead the group again. */
  readonly isDeleted: (group: GroupId) => boolean;
};

export class Router {
  private readonly components: RouterComponents;
  private forwarder: Forwarder | null = null;
  private readonly waiting = new Map<GroupId, Attempt[]>();
  private waitingCount = 0;
  private waitingBytes = 0;
  private sweepScheduled = false;

  constructor(components: RouterComponents) {
    this.components = components;
    components.leaders.watch((group) => this.wake(group));
  }

  attach(forwarder: Forwarder): void {
    this.forwarder = forwarder;
  }

  /** The leader's node as known here; 0 = none. */
  leaderOf(group: GroupId): NodeId | 0 {
    return this.components.leaders.of(group);
  }

  /** Proposes one entry through the leader, wherever it is. `direct`: only if it is here. */
  propose(group: GroupId, kind: EntryKind, payload: Uint8Array, direct: boolean, outcome: ProposeOutcome): void {
    const deadlineMs = this.components.clock.monotonicMs() + LEADER_WAIT_MS;
    const run = (leader: NodeId): void => {
      if (leader === this.components.nodeId) this.proposeHere(group, kind, payload, direct, deadlineMs, run, outcome);
      else if (direct) outcome(notLeader(leader), 0, 0, null);
      else this.proposeThere(leader, group, kind, payload, deadlineMs, run, outcome);
    };
    const leader = this.leaderOf(group);
    // Whoever waits for this group goes first: the order of a producer's batches is kept.
    if (leader !== 0 && !this.waiting.has(group)) run(leader);
    else if (direct) outcome(leader === 0 ? noLeader(group) : notLeader(leader), 0, 0, null);
    else this.wait(group, { run, fail: (error) => outcome(error, 0, 0, null), deadlineMs, bytes: payload.length });
  }

  /** Proposes a catalog command. */
  catalog(command: Uint8Array, outcome: ProposeOutcome): void {
    this.propose(CATALOG_GROUP, ENTRY_COMMAND, command, false, outcome);
  }

  /** Resolves with the leader's node, or rejects with NO_LEADER. */
  async leader(group: GroupId, waitMs: number = LEADER_WAIT_MS): Promise<NodeId> {
    const known = this.leaderOf(group);
    if (known !== 0) return known;
    return new Promise((resolve, reject) => {
      this.wait(group, { run: resolve, fail: reject, deadlineMs: this.components.clock.monotonicMs() + waitMs, bytes: 0 });
    });
  }

  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.components.clock.schedule(delayMs, resolve));
  }

  /** Calls `operation` on another node; rejects with the other side's error. */
  async ask(node: NodeId, operation: number, parts: readonly Uint8Array[], signal: AbortSignal): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      let cancel = (): void => {};
      const abort = (): void => {
        cancel();
        reject(new BrokerError("TIMEOUT", "the caller's time was up before the leader answered"));
      };
      signal.addEventListener("abort", abort, { once: true });
      // Without a link to the node the answer comes before the call returns.
      cancel = this.forwarder!.call(node, operation, parts, (error, body) => {
        signal.removeEventListener("abort", abort);
        if (error === null) resolve(body);
        else reject(error);
      });
      if (signal.aborted) abort();
    });
  }

  /** Serves OP_PROPOSE of other nodes: this node leads, or says so. */
  readonly servePropose: Serve = (_from, body, reply) => {
    const reader = new ByteReader(body);
    const group = reader.u32() as GroupId;
    const kind = reader.u8() === ENTRY_RECORDS ? ENTRY_RECORDS : ENTRY_COMMAND;
    const payload = reader.raw(reader.remaining);
    this.components.host.propose(group, kind, payload, (code, value, detail) => reply(null, [encodeOutcome(code, value, detail)]));
  };

  private proposeHere(
    group: GroupId,
    kind: EntryKind,
    payload: Uint8Array,
    direct: boolean,
    deadlineMs: number,
    run: (leader: NodeId) => void,
    outcome: ProposeOutcome,
  ): void {
    this.components.host.propose(group, kind, payload, (code, value, detail) => {
      if (code >= 0) outcome(null, code, value, detail);
      else this.refused(group, code, payload.length, direct, deadlineMs, run, outcome);
    });
  }

  private proposeThere(
    leader: NodeId,
    group: GroupId,
    kind: EntryKind,
    payload: Uint8Array,
    deadlineMs: number,
    run: (leader: NodeId) => void,
    outcome: ProposeOutcome,
  ): void {
    const header = new ByteWriter(8).u32(group).u8(kind).finish();
    this.forwarder!.call(leader, OP_PROPOSE, [header, payload], (error, body) => {
      if (error !== null) {
        // NO_LEADER here means that the frame never left: as good as not tried.
        if (error.code === "NO_LEADER")
          this.wait(group, { run, fail: (failure) => outcome(failure, 0, 0, null), deadlineMs, bytes: payload.length });
        else outcome(error, 0, 0, null);
        return;
      }
      const { code, value, detail } = decodeOutcome(body);
      if (code >= 0) outcome(null, code, value, detail);
      else this.refused(group, code, payload.length, false, deadlineMs, run, outcome);
    });
  }

  private refused(
    group: GroupId,
    code: number,
    bytes: number,
    direct: boolean,
    deadlineMs: number,
    run: (leader: NodeId) => void,
    outcome: ProposeOutcome,
  ): void {
    switch (code) {
      case HOST_NOT_LEADER:
      case HOST_NO_GROUP:
        if (direct) outcome(notLeader(this.leaderOf(group)), 0, 0, null);
        else this.wait(group, { run, fail: (error) => outcome(error, 0, 0, null), deadlineMs, bytes });
        return;
      case HOST_OVERLOADED:
        outcome(new BrokerError("OVERLOADED", "too much of this partition is not yet committed; slow down"), 0, 0, null);
        return;
      case HOST_DISK_FULL:
        outcome(new BrokerError("DISK_FULL", "the disk of the partition's leader, or of most of its replicas, is nearly full"), 0, 0, null);
        return;
      case HOST_STOPPING:
        outcome(new BrokerError("STOPPING", "the node is shutting down"), 0, 0, null);
        return;
      case HOST_LOST:
        outcome(
          new BrokerError("LEADER_CHANGED", "the leader changed before the outcome was known; send it again with the same sequence"),
          0,
          0,
          null,
        );
        return;
      default:
        outcome(new BrokerError("INTERNAL", `unknown outcome ${code}`), 0, 0, null);
    }
  }

  private wait(group: GroupId, attempt: Attempt): void {
    if (this.waitingCount >= WAITING_MAX || (this.waitingBytes > 0 && this.waitingBytes + attempt.bytes > WAITING_BYTES_MAX)) {
      attempt.fail(new BrokerError("OVERLOADED", "too many requests wait for a leader on this node already"));
      return;
    }
    let attempts = this.waiting.get(group);
    if (attempts === undefined) this.waiting.set(group, (attempts = []));
    attempts.push(attempt);
    this.waitingCount += 1;
    this.waitingBytes += attempt.bytes;
    if (!this.sweepScheduled) {
      this.sweepScheduled = true;
      this.components.clock.schedule(RETRY_MS, () => this.sweep());
    }
  }

  private wake(group: GroupId): void {
    const leader = this.leaderOf(group);
    const attempts = this.waiting.get(group);
    if (leader === 0 || attempts === undefined) return;
    this.waiting.delete(group);
    let at = 0;
    while (at < attempts.length) {
      const attempt = attempts[at++]!;
      this.left(attempt);
      attempt.run(leader);
      // It came back at once, so the way to the leader is blocked: the others stay in line behind it, untried.
      const again = this.waiting.get(group);
      if (again === undefined) continue;
      for (; at < attempts.length; at++) again.push(attempts[at]!);
    }
  }

  private left(attempt: Attempt): void {
    this.waitingCount -= 1;
    this.waitingBytes -= attempt.bytes;
  }

  private sweep(): void {
    this.sweepScheduled = false;
    const now = this.components.clock.monotonicMs();
    // Those of now: whoever waits again by then is for the next round.
    for (const [group, attempts] of [...this.waiting]) {
      const untilMs = this.components.isDeleted(group) ? Number.POSITIVE_INFINITY : now;
      const expired = attempts.filter((attempt) => attempt.deadlineMs <= untilMs);
      for (const attempt of expired) this.left(attempt);
      const left = attempts.filter((attempt) => attempt.deadlineMs > untilMs);
      if (left.length === 0) this.waiting.delete(group);
      else this.waiting.set(group, left);
      for (const attempt of expired) attempt.fail(noLeader(group));
      if (left.length > 0) this.wake(group);
    }
    if (this.waitingCount > 0 && !this.sweepScheduled) {
      this.sweepScheduled = true;
      this.components.clock.schedule(RETRY_MS, () => this.sweep());
    }
  }
}

export function notLeader(leader: NodeId | 0): BrokerError {
  return new BrokerError(
    "NOT_LEADER",
    leader === 0 ? "this node does not lead the partition" : `node ${leader} leads the partition`,
    leader === 0 ? {} : { leader: String(leader) },
  );
}

function noLeader(group: GroupId): BrokerError {
  return new BrokerError(
    "NO_LEADER",
    group === CATALOG_GROUP
      ? "the catalog has no leader: is a majority of the nodes up?"
      : "the partition has no leader: is a majority of its replicas up?",
    { group: String(group) },
  );
}
