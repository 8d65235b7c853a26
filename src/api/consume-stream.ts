// One Consume call: credit and settlements in, messages and the outcomes of settlements out, one write per turn. While the client does not
// read, nothing more is sent to it and what it may have been sent stays with the queue; while too much that it said is unanswered, nothing
// more is read from it. When the node stops the call ends: what the consumer holds goes back, or on with its next stream.

import type { ServerDuplexStream } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import { CONSUMER_CREDIT_MAX, SETTLEMENTS_INFLIGHT_MAX } from "../base/limits.ts";
import { NOTHING } from "../base/nothing.ts";
import type { Pacer } from "../base/pacer.ts";
import type { Broker } from "../broker/types.ts";
import { faultOf } from "../broker/work/checks.ts";
import type { ConsumeCall as OpenCall, ConsumeHandle, Delivered, Settled, Settlement } from "../broker/work/types.ts";
import type { Decoded } from "./definitions.ts";
import { HeldFrames } from "./held-frames.ts";
import { toStatus } from "./status.ts";
import type { ConsumeAnswer, ConsumeFrame, RevokedMessages, SettleAck } from "./work-codec.ts";

export type ConsumeCall = ServerDuplexStream<Decoded<ConsumeFrame>, ConsumeAnswer>;

export class ConsumeStream {
  private readonly call: ConsumeCall;
  private readonly broker: Broker;
  private readonly stopping: AbortSignal;
  private handle: ConsumeHandle | null = null;
  private isOpening = false;
  private readonly held: HeldFrames<Decoded<ConsumeFrame>>;
  private nextSettlement = 1;
  private unanswered = 0;
  private credited = 0;
  private deliveries: Delivered[] = [];
  private settled: SettleAck[] = [];
  private revoked: RevokedMessages[] = [];
  private opened = false;
  private drained = -1;
  private writeScheduled = false;
  private isBlocked = false;
  private isPaused = false;
  private isEnding = false;
  private isOver = false;
  private readonly leave = (): void => this.fail(new BrokerError("STOPPING", "the node is shutting down"));

  constructor(call: ConsumeCall, broker: Broker, { pacer, stopping }: { readonly pacer: Pacer; readonly stopping: AbortSignal }) {
    this.call = call;
    this.broker = broker;
    this.stopping = stopping;
    this.held = new HeldFrames(pacer, {
      // What came before the consumer is there waits for it.
      mayTake: () => !this.isOver && !this.isOpening,
      take: (frame) => this.take(frame),
      changed: () => this.framesChanged(),
    });
    call.on("data", (frame: Decoded<ConsumeFrame>) => this.receive(frame));
    call.on("end", () => {
      this.isEnding = true;
      this.finish();
    });
    call.on("cancelled", () => this.over());
    call.on("error", () => this.over());
    call.on("drain", () => {
      this.isBlocked = false;
      this.write();
      if (!this.isBlocked) this.handle?.resume();
    });
    stopping.addEventListener("abort", this.leave, { once: true });
    if (stopping.aborted) this.leave();
  }

  private over(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.stopping.removeEventListener("abort", this.leave);
    this.handle?.close();
  }

  private receive(frame: Decoded<ConsumeFrame>): void {
    if (!this.isOver) this.held.push(frame);
  }

  private framesChanged(): void {
    this.throttle();
    this.finish();
  }

  private take(frame: Decoded<ConsumeFrame>): void {
    if (this.isOver) return;
    if (frame.error !== null) {
      this.fail(frame.error);
      return;
    }
    const { open, credit, settlements, drain } = frame.value;
    if (open !== null) {
      if (this.handle !== null)
        return this.fail(new BrokerError("INVALID_ARGUMENT", "open may stand in the first message only", { field: "open" }));
      // The rest of the frame is taken once the consumer is there.
      this.held.putBack({ value: { open: null, credit, settlements, drain }, error: null });
      this.open(open);
      return;
    }
    if (this.handle === null) return this.fail(new BrokerError("INVALID_ARGUMENT", "the first message must have open", { field: "open" }));
    for (const settlement of settlements) this.settle(this.handle, settlement);
    if (credit !== null) this.credit(this.handle, credit.messages, credit.bytes);
    if (drain) this.handle.drain();
  }

  private open(open: OpenCall): void {
    this.isOpening = true;
    this.broker.queues.sure(open).then(
      () => this.attach(open),
      (error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
        this.fail(error);
      },
    );
  }

  private attach(open: OpenCall): void {
    this.isOpening = false;
    if (this.isOver) return;
    try {
      this.handle = this.broker.queues.consume(open, {
        opened: () => {
          this.opened = true;
          this.schedule();
        },
        deliver: (delivered) => this.deliver(delivered),
        revoked: (partition, firstOffset, count) => {
          this.revoked.push({ partition, firstOffset, count });
          this.schedule();
        },
        drained: (messages) => {
          this.drained = Math.max(0, this.drained) + messages;
          this.credited -= messages;
          this.schedule();
        },
        failed: (error) => this.fail(error),
      });
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      this.fail(error);
      return;
    }
    this.held.go();
  }

  private credit(handle: ConsumeHandle, messages: number, bytes: number): void {
    this.credited += messages;
    if (this.credited > CONSUMER_CREDIT_MAX) {
      this.fail(
        new BrokerError("INVALID_ARGUMENT", `a consumer may have credit for ${CONSUMER_CREDIT_MAX} messages, not ${this.credited}`, {
          field: "credit.messages",
        }),
      );
      return;
    }
    handle.credit(messages, bytes);
  }

  private settle(handle: ConsumeHandle, settlement: Settlement): void {
    const id = this.nextSettlement++;
    const fault = faultOf(settlement);
    if (fault !== null) {
      this.answer(id, { error: fault, messages: 0, lost: NOTHING });
      return;
    }
    this.unanswered += 1;
    handle.settle(settlement, (error, messages, lost) => {
      this.unanswered -= 1;
      this.answer(id, { error, messages, lost });
    });
  }

  private answer(firstId: number, { error, messages, lost }: Settled): void {
    const last = this.settled[this.settled.length - 1];
    if (last !== undefined && last.error === null && error === null && last.firstId + last.settlements === firstId) {
      last.settlements += 1;
      last.messages += messages;
    } else this.settled.push({ firstId, settlements: 1, error, messages, lost });
    this.schedule();
  }

  private deliver(delivered: readonly Delivered[]): boolean {
    for (const one of delivered) {
      this.deliveries.push(one);
      this.credited -= one.count;
    }
    // At once: the next ones are read only then.
    this.write();
    return !this.isBlocked && !this.isOver;
  }

  private schedule(): void {
    if (this.writeScheduled || this.isOver) return;
    this.writeScheduled = true;
    // After everything that this turn has to say.
    queueMicrotask(() => {
      this.writeScheduled = false;
      this.write();
    });
  }

  private write(): void {
    if (this.isOver || this.isBlocked) return;
    const { deliveries, settled, revoked, opened, drained } = this;
    if (deliveries.length > 0 || settled.length > 0 || revoked.length > 0 || opened || drained >= 0) {
      this.deliveries = [];
      this.settled = [];
      this.revoked = [];
      this.opened = false;
      this.drained = -1;
      this.isBlocked = !this.call.write({ deliveries, settled, opened, revoked, drained });
    }
    this.throttle();
    this.finish();
  }

  private throttle(): void {
    const full = this.held.isWaiting || this.isBlocked || this.unanswered >= SETTLEMENTS_INFLIGHT_MAX;
    if (full === this.isPaused) return;
    this.isPaused = full;
    if (full) this.call.pause();
    else this.call.resume();
  }

  /** The client has said everything: what it said is answered, then the consumer is gone. */
  private finish(): void {
    if (!this.isEnding || this.isOver || this.isOpening || this.held.size > 0 || this.unanswered > 0 || this.settled.length > 0) return;
    this.over();
    this.call.end();
  }

  private fail(error: BrokerError): void {
    if (this.isOver) return;
    this.over();
    this.call.emit("error", toStatus(error));
  }
}
