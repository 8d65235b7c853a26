// One consumer of a session in one group: attached there under an id, with as much room as the session gives it, and what it was given and
// has yet to be sent on.

import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { GRANTS_INFLIGHT_MAX } from "../../base/limits.ts";
import type { TopicRow } from "../../machine/catalog/catalog.ts";
import { WORK_NO_CONSUMER, WORK_TOO_MANY, WORK_UNKNOWN } from "../../machine/work/works.ts";
import type { WorkOperation } from "../../machine/work/operations.ts";
import type { LeasedRun, RevokedRun } from "./codec.ts";
import type { Attached, Gateway } from "./gateway.ts";

export type PartTerms = {
  readonly group: GroupId;
  readonly partition: number;
  readonly subscription: string;
  readonly priority: number;
  readonly leaseMs: number;
  /** 0 = until it is closed. */
  readonly staysMs: number;
};

export type PartEvents = {
  /** The group knows of it. */
  attached(): void;
  /** There is something to send on. */
  given(): void;
  revoked(part: Part, from: number, count: number): void;
  /** The topic may have more partitions. */
  grown?(topic: TopicRow): void;
  /** Nothing will come of it. */
  failed(error: BrokerError): void;
};

/** So long before the end of its lease goes back what could not be sent on: at least, in ms, and as a share of the lease. */
const UNSENT_MS_MIN = 1_500;
const UNSENT_SHARE = 4;
const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 1_000;
/** A subscription that the catalog has and its partition does not yet: its leader is about to make it. */
const UNKNOWN_TRIES_MAX = 100;

/** Tokens of which a part keeps in mind that it has what was given under them. */
const TOKENS_MAX = 4_096;

/** What was given under one token comes as a whole, so a token that is known misses nothing. The oldest are taken for known. */
class TokensSeen {
  private readonly known = new Set<number>();
  private floor = 0;

  note(token: number): void {
    this.known.add(token);
    if (this.known.size <= TOKENS_MAX) return;
    const [oldest] = this.known;
    this.known.delete(oldest!);
    this.floor = Math.max(this.floor, oldest!);
  }

  isMissing(token: number): boolean {
    return token > this.floor && !this.known.has(token);
  }
}

/** With when it came, by the clock of this node. */
type PendingRun = LeasedRun & { readonly sinceMs: number };

export class Part implements Attached {
  readonly terms: PartTerms;
  consumer: number;
  /** Given to it, and not sent on yet; in the order in which it came. */
  pending: PendingRun[] = [];
  pendingMessages = 0;
  private readonly gateway: Gateway;
  private readonly events: PartEvents;
  /**
   * In all, under this id: what it may be given, what of that was said to the group, what it has heard of that, and what it was given.
   * Invariant: told <= granted, said <= granted.
   */
  private granted: number;
  private said = -1;
  private told = -1;
  private received = 0;
  /** The group may know of this id. */
  private mayBeKnown = false;
  /** How often it has been said and not answered, and who waits for the answers; while somebody drains nothing more is said. */
  private inFlight = 0;
  private quiet: (() => void)[] = [];
  private drains = 0;
  private isTellingLater = false;
  private isLooking = false;
  private failures = 0;
  private isClosed = false;
  private tokens = new TokensSeen();

  constructor(gateway: Gateway, terms: PartTerms, granted: number, events: PartEvents) {
    this.gateway = gateway;
    this.terms = terms;
    this.events = events;
    this.granted = granted;
    this.consumer = gateway.nextConsumer();
    gateway.add(this);
    this.tell();
  }

  get group(): GroupId {
    return this.terms.group;
  }

  get subscription(): string {
    return this.terms.subscription;
  }

  /** Messages that it may be given and was not yet. */
  get outstanding(): number {
    return Math.max(0, this.granted - this.received);
  }

  grant(messages: number): void {
    this.granted += messages;
    this.tell();
  }

  /** Takes back what it was not given; resolves with how many messages these were. What was said of its room before comes before it. */
  async drain(): Promise<number> {
    const before = this.outstanding;
    this.drains += 1;
    try {
      while (this.inFlight > 0 && !this.isClosed) await new Promise<void>((resolve) => this.quiet.push(resolve));
      if (this.isClosed) return 0;
      if (!this.mayBeKnown) {
        this.drained(WORK_NO_CONSUMER);
        return Math.max(0, before - this.outstanding);
      }
      const { consumer } = this;
      const given = await this.gateway.components.operator.ask(this.group, { op: "drain", name: this.subscription, consumer });
      if (!this.isClosed && consumer === this.consumer) this.drained(given);
      return Math.max(0, before - this.outstanding);
    } finally {
      this.drains -= 1;
      this.tell();
    }
  }

  private drained(given: number): void {
    // What was granted meanwhile was not said, and goes by what was known before: who granted it does so again.
    if (given >= 0) {
      this.granted = given;
      this.told = given;
      this.said = given;
      return;
    }
    // The group knows of no such consumer, or not yet: there is nothing to take back.
    this.granted = this.received;
    this.said = Math.min(this.said, this.granted);
    this.told = Math.min(this.told, this.granted);
    if (given !== WORK_NO_CONSUMER || this.told < 0) return;
    this.pending = [];
    this.pendingMessages = 0;
    this.begin();
  }

  /** Takes out what was given first, up to `messages` of a run. */
  takeFirst(messages: number): LeasedRun {
    const run = this.pending[0]!;
    const count = Math.min(messages, run.end - run.from);
    this.pendingMessages -= count;
    if (count === run.end - run.from) {
      this.pending.shift();
      return run;
    }
    this.pending[0] = { ...run, from: run.from + count };
    return { ...run, end: run.from + count };
  }

  /** What it has heard of already it was given once: a notice may come after an answer that tells of the same. */
  leased(runs: readonly LeasedRun[]): void {
    if (this.isClosed) return;
    const missing = runs.filter(({ token }) => this.tokens.isMissing(token));
    for (const run of missing) {
      this.received += run.end - run.from;
      this.put(run);
    }
    // Once for all of them: what lies together is then sent on together.
    if (missing.length > 0) this.events.given();
  }

  revoked({ from, end }: RevokedRun): void {
    const kept = this.pending.filter((run) => run.end <= from || run.from >= end);
    if (kept.length === this.pending.length) this.events.revoked(this, from, end - from);
    else {
      this.pending = kept;
      this.pendingMessages = messagesOf(kept);
    }
  }

  grown(topic: TopicRow): void {
    if (!this.isClosed) this.events.grown?.(topic);
  }

  gone(error: BrokerError): void {
    if (!this.isClosed) this.events.failed(error);
  }

  lookAgain(): void {
    if (this.isLooking || this.isClosed || this.told < 0) return;
    this.isLooking = true;
    this.look().then(
      () => (this.isLooking = false),
      (error: unknown) => {
        this.isLooking = false;
        if (!(error instanceof BrokerError)) throw error;
        this.later(() => this.lookAgain());
      },
    );
  }

  /** What was given and not sent on goes back as if it had never come; the rest as delivered once more. */
  close(): void {
    if (this.isClosed) return;
    this.leave();
    this.detach(this.consumer, 0);
  }

  /**
   * Once a second. What waits here for a client that takes nothing goes back before its lease ends, as if it had never been given: then it
   * would count as a delivery that nobody has seen.
   */
  upkeep(): void {
    if (this.pendingMessages === 0) return;
    const { leaseMs } = this.terms;
    const waitMsMax = Math.max(leaseMs / 2, leaseMs - Math.max(UNSENT_MS_MIN, leaseMs / UNSENT_SHARE));
    const nowMs = this.gateway.components.clock.monotonicMs();
    const isLate = ({ sinceMs }: PendingRun): boolean => nowMs - sinceMs > waitMsMax;
    const late = this.pending.filter(isLate);
    if (late.length === 0) return;
    this.pending = this.pending.filter((run) => !isLate(run));
    this.pendingMessages = messagesOf(this.pending);
    this.release(late);
  }

  /** What was given and not taken goes back as if it had never come; what was taken stays with whoever took it. */
  leave(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.gateway.remove(this);
    this.wakeQuiet();
    this.release(this.pending);
  }

  private release(runs: readonly LeasedRun[]): void {
    const { operator } = this.gateway.components;
    for (const { from, end, token } of runs)
      operator.operate(
        this.group,
        { op: "settle", name: this.subscription, consumer: this.consumer, token, from, end, outcome: { kind: "release" } },
        () => {},
      );
  }

  /** Asks the leader what it holds: what was said while nobody listened is in there. */
  private async look(): Promise<void> {
    const { consumer } = this;
    const leases = await this.gateway.leasesOf(this);
    if (this.isClosed || consumer !== this.consumer) return;
    this.failures = 0;
    this.leased(leases);
    // The group may have forgotten this consumer: what it was told last says so.
    this.told = Math.min(this.told, this.granted - 1);
    this.said = this.told;
    this.tell();
  }

  /** What was missed goes before what came later. */
  private put(given: LeasedRun): void {
    this.tokens.note(given.token);
    const run = { ...given, sinceMs: this.gateway.components.clock.monotonicMs() };
    let at = this.pending.length;
    while (at > 0 && this.pending[at - 1]!.token > run.token) at -= 1;
    if (at === this.pending.length) this.pending.push(run);
    else this.pending.splice(at, 0, run);
    this.pendingMessages += run.end - run.from;
  }

  /**
   * Room is said with whatever else is said in this turn, and does not wait for answers, but for those before the last few: totals only
   * rise, so their order is nothing.
   */
  private tell(): void {
    const isNew = this.told < 0;
    if (this.isClosed || this.drains > 0 || this.said >= this.granted || (isNew && this.said >= 0)) return;
    if (this.inFlight >= GRANTS_INFLIGHT_MAX) return;
    const { granted, consumer } = this;
    this.said = granted;
    const name = this.subscription;
    const { priority, leaseMs, staysMs } = this.terms;
    const operation: WorkOperation = isNew
      ? { op: "attach", name, consumer, granted, terms: { priority, leaseMs, staysMs, gateway: this.gateway.id } }
      : { op: "grant", name, consumer, granted };
    this.inFlight += 1;
    this.gateway.components.operator.operate(this.group, operation, (error, result) => {
      if (this.isClosed || consumer !== this.consumer) return;
      this.inFlight -= 1;
      this.mayBeKnown ||= error === null || error.maybeApplied;
      if (this.inFlight === 0) this.wakeQuiet();
      if (error !== null) this.refused(error);
      else this.answered(result, granted, isNew);
    });
  }

  private wakeQuiet(): void {
    for (const wake of this.quiet.splice(0)) wake();
  }

  private answered(result: number, granted: number, isNew: boolean): void {
    if (result === WORK_NO_CONSUMER) {
      this.begin();
      return;
    }
    if (result === WORK_TOO_MANY) {
      this.events.failed(new BrokerError("TOO_MANY", "the queue has as many consumers as it can"));
      return;
    }
    if (result === WORK_UNKNOWN) {
      if (++this.failures > UNKNOWN_TRIES_MAX) this.events.failed(new BrokerError("UNKNOWN_SUBSCRIPTION", "the subscription is gone"));
      else this.tellLater();
      return;
    }
    this.failures = 0;
    this.told = Math.max(this.told, granted);
    if (isNew) this.events.attached();
    this.tell();
  }

  /** The group has taken this consumer for gone, and what it held has gone back: it begins anew under another id. */
  private begin(): void {
    this.gateway.remove(this);
    this.consumer = this.gateway.nextConsumer();
    this.gateway.add(this);
    this.granted = this.outstanding + this.pendingMessages;
    this.pending = [];
    this.pendingMessages = 0;
    this.tokens = new TokensSeen();
    this.received = 0;
    this.told = -1;
    this.said = -1;
    this.mayBeKnown = false;
    // Answers to what was said under the other id are nothing to this one.
    this.inFlight = 0;
    this.wakeQuiet();
    this.tell();
  }

  private refused(error: BrokerError): void {
    const gone = this.gateway.goneFrom(this.group, this.subscription);
    if (gone !== null) {
      this.events.failed(gone);
      return;
    }
    if (!error.retryable) {
      this.events.failed(error);
      return;
    }
    this.tellLater();
  }

  /** What was said last may not have come to the group; all of that is said again at one time. */
  private tellLater(): void {
    if (this.isTellingLater) return;
    this.isTellingLater = true;
    this.later(() => {
      this.isTellingLater = false;
      this.said = this.told;
      this.tell();
    });
  }

  private later(again: () => void): void {
    this.failures += 1;
    const ms = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.failures, 6));
    this.gateway.components.clock.schedule(ms, () => {
      if (!this.isClosed) again();
    });
  }

  /** Until the group has heard it, or is gone: its own watch over nodes that are down would not find this one. */
  private detach(consumer: number, tries: number): void {
    const { operator, clock, catalog } = this.gateway.components;
    operator.operate(this.group, { op: "detach", name: this.subscription, consumer }, (error) => {
      if (error === null || !error.retryable || catalog.group(this.group) === undefined) return;
      clock.schedule(Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(tries, 6)), () => this.detach(consumer, tries + 1));
    });
  }
}

function messagesOf(runs: readonly LeasedRun[]): number {
  return runs.reduce((sum, { from, end }) => sum + end - from, 0);
}
