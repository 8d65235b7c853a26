// One Consume stream to one node: credit and settlements out, messages in. Everything of a turn leaves in one write, and settlements of
// neighbours as ranges.

import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import { assert } from "../base/assert.ts";
import { DecodeError } from "../base/bytes.ts";
import { CONSUME_FRAME_SETTLEMENTS_MAX } from "../base/limits.ts";
import { FlotillaError, fromGrpc } from "./errors.ts";
import type { LeasedMessage } from "./message.ts";
import {
  decodeConsume,
  encodeConsume,
  type ConsumeOpen,
  type Delivery,
  type Outcome,
  type SettleAck,
  type Settlement,
} from "./work-wire.ts";

/** Called once: null when the queue has it. */
export type Done = (error: FlotillaError | null) => void;
export type Detail = { readonly delayMs?: number | undefined; readonly leaseMs?: number | undefined };
type Waiting = {
  readonly message: LeasedMessage;
  readonly outcome: Outcome;
  readonly detail: Detail;
  readonly done: Done;
};

export type ConsumeEvents = {
  opened(): void;
  delivered(delivery: Delivery): void;
  /** Before whoever said it hears of it. */
  answered(message: LeasedMessage, outcome: Outcome, detail: Detail, error: FlotillaError | null): void;
  revoked(partition: number, firstOffset: number, count: number): void;
  drained(): void;
  lost(link: ConsumeLink, error: FlotillaError): void;
};

export class ConsumeLink {
  readonly endpoint: string;
  /** Tells this stream from those before and after it. */
  readonly life: number;
  private readonly stream: ClientDuplexStream<Buffer, Buffer>;
  private readonly events: ConsumeEvents;
  private waiting: Waiting[] = [];
  private credit = 0;
  private isDraining = false;
  private flushScheduled = false;
  private isBlocked = false;
  private nextId = 1;
  /** By the number of the settlement on this stream. */
  private readonly unanswered = new Map<number, readonly Waiting[]>();
  isClosed = false;

  constructor(endpoint: string, life: number, stream: ClientDuplexStream<Buffer, Buffer>, open: ConsumeOpen, events: ConsumeEvents) {
    this.endpoint = endpoint;
    this.life = life;
    this.stream = stream;
    this.events = events;
    stream.on("data", (bytes: Buffer) => this.receive(bytes));
    stream.on("error", (error) => this.end(fromGrpc(error as ServiceError)));
    stream.on("end", () => this.end(new FlotillaError("UNREACHABLE", "the node ended the stream", { maybeApplied: true })));
    stream.on("drain", () => {
      this.isBlocked = false;
      this.flush();
    });
    stream.write(encodeConsume({ open }));
  }

  grant(messages: number): void {
    this.credit += messages;
    this.schedule();
  }

  drain(): void {
    this.isDraining = true;
    this.schedule();
  }

  /** `done` is called once, never before this returns. */
  settle(message: LeasedMessage, outcome: Outcome, detail: Detail, done: Done): void {
    assert(!this.isClosed, "nothing is said on a stream that has ended");
    this.waiting.push({ message, outcome, detail, done });
    this.schedule();
  }

  /** Has what was said answered, then ends. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.flush();
    const left = [...this.unanswered.values()].flat().length;
    if (left > 0) await new Promise<void>((resolve) => (this.idle = resolve));
    if (this.isClosed) return;
    this.isClosed = true;
    this.stream.end();
    // The node answers by ending its side; a node that does not is left alone.
    setTimeout(() => this.stream.cancel(), 1_000).unref();
  }

  /** Ends the stream at once; nothing more is reported. */
  cancel(): void {
    this.isClosed = true;
    this.stream.cancel();
    this.failAll(leaseLost());
  }

  private idle = (): void => {};

  private schedule(): void {
    if (this.flushScheduled || this.isClosed) return;
    this.flushScheduled = true;
    // Not a microtask: that would run between two messages of a loop, this one runs when the loop has nothing left.
    process.nextTick(() => {
      this.flushScheduled = false;
      this.flush();
    });
  }

  private flush(): void {
    if (this.isClosed || this.isBlocked) return;
    while (!this.isBlocked && (this.waiting.length > 0 || this.credit > 0 || this.isDraining)) {
      const settlements = this.takeSettlements();
      const drain = this.isDraining && this.waiting.length === 0;
      this.isBlocked = !this.stream.write(encodeConsume({ settlements, messages: this.credit, drain }));
      this.credit = 0;
      if (drain) this.isDraining = false;
    }
  }

  /** What was said, neighbours of one lease as one. */
  private takeSettlements(): Settlement[] {
    const { waiting } = this;
    if (waiting.length === 0) return [];
    waiting.sort((a, b) => a.message.partition - b.message.partition || a.message.offset - b.message.offset);
    const settlements: (Settlement & { count: number })[] = [];
    let group: Waiting[] = [];
    let taken = 0;
    for (const one of waiting) {
      const last = settlements[settlements.length - 1];
      if (last !== undefined && joins(last, one)) {
        last.count += 1;
        group.push(one);
      } else {
        if (settlements.length === CONSUME_FRAME_SETTLEMENTS_MAX) break;
        group = [one];
        this.unanswered.set(this.nextId++, group);
        const { partition, offset, token } = one.message;
        settlements.push({ partition, firstOffset: offset, count: 1, token, outcome: one.outcome, ...one.detail });
      }
      taken += 1;
    }
    this.waiting = waiting.slice(taken);
    return settlements;
  }

  private receive(bytes: Buffer): void {
    try {
      const { deliveries, settled, isOpened, revoked, drained } = decodeConsume(bytes);
      if (isOpened) this.events.opened();
      for (const delivery of deliveries) this.events.delivered(delivery);
      for (const { firstId, settlements, error, lost } of settled)
        for (let id = firstId; id < firstId + settlements; id++) this.answered(id, error, lost);
      for (const { partition, firstOffset, count } of revoked) this.events.revoked(partition, firstOffset, count);
      if (drained >= 0) this.events.drained();
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.stream.cancel();
      this.end(new FlotillaError("INTERNAL", `the node sent something that is no message: ${error.message}`, { cause: error }));
    }
  }

  /** Where only some were lost the error is theirs alone. Both go by offset, ascending. */
  private answered(id: number, error: FlotillaError | null, lost: SettleAck["lost"]): void {
    const group = this.unanswered.get(id) ?? [];
    this.unanswered.delete(id);
    let at = 0;
    for (const one of group) {
      const { offset } = one.message;
      while (at < lost.length && lost[at]!.firstOffset + lost[at]!.count <= offset) at += 1;
      this.tell(one, lost.length === 0 || (at < lost.length && lost[at]!.firstOffset <= offset) ? error : null);
    }
    if (this.unanswered.size === 0) this.idle();
  }

  private tell({ message, outcome, detail, done }: Waiting, error: FlotillaError | null): void {
    this.events.answered(message, outcome, detail, error);
    done(error);
  }

  private end(error: FlotillaError): void {
    if (this.isClosed) {
      this.failAll(leaseLost());
      return;
    }
    this.isClosed = true;
    this.failAll(
      new FlotillaError("LEASE_LOST", `the connection was lost before the outcome was known: ${error.message}`, { maybeApplied: true }),
    );
    this.events.lost(this, error);
  }

  private failAll(error: FlotillaError): void {
    const all = [...[...this.unanswered.values()].flat(), ...this.waiting];
    this.unanswered.clear();
    this.waiting = [];
    for (const one of all) this.tell(one, error);
    this.idle();
  }
}

export function leaseLost(): FlotillaError {
  return new FlotillaError("LEASE_LOST", "the connection that the message came by is gone: somebody else has it, or will");
}

function joins(last: Settlement, { message, outcome, detail }: Waiting): boolean {
  return (
    last.partition === message.partition &&
    last.firstOffset + last.count === message.offset &&
    last.token === message.token &&
    last.outcome === outcome &&
    last.delayMs === detail.delayMs &&
    last.leaseMs === detail.leaseMs
  );
}
