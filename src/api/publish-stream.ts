// One PublishStream call: batches in, acknowledgements out as ranges, one write per turn. What is under way is bounded;
// beyond that, and while the client does not read its acknowledgements, nothing more is read from it. When the node stops
// the call ends as soon as what was taken is answered: the client sends the rest to another node, and nothing is in doubt.

import type { ServerDuplexStream } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import { BATCH_BYTES_MAX, FRAME_ACKS_MAX } from "../base/limits.ts";
import { NOTHING } from "../base/nothing.ts";
import type { Pacer } from "../base/pacer.ts";
import type { Broker } from "../broker/types.ts";
import type { Decoded } from "./definitions.ts";
import { HeldFrames } from "./held-frames.ts";
import type { Ack, PublishFrame, PublishOpen, StreamBatch } from "./raw-codec.ts";
import { toStatus } from "./status.ts";
import type { Traffic } from "./traffic.ts";

/** Batches, and their bytes, of one stream that are not yet acknowledged. */
const INFLIGHT_BATCHES_MAX = 8_192;
const INFLIGHT_BYTES_MAX = 16 * 1024 * 1024 + BATCH_BYTES_MAX;

export type PublishCall = ServerDuplexStream<Decoded<PublishFrame>, readonly Ack[]>;

export class PublishStream {
  private readonly call: PublishCall;
  private readonly broker: Broker;
  private readonly held: HeldFrames<Decoded<PublishFrame>>;
  private open: PublishOpen | null = null;
  private nextId = 1;
  private inflightBatches = 0;
  private inflightBytes = 0;
  private acks: Ack[] = [];
  private writeScheduled = false;
  private isBlocked = false;
  private isPaused = false;
  /** The client has sent everything, or nothing more is taken from it. */
  private isEnding = false;
  private isOver = false;
  private readonly stopping: AbortSignal;
  private readonly traffic: Traffic;
  private readonly leave = (): void => {
    this.held.clear();
    this.isEnding = true;
    this.finish();
  };

  constructor(
    call: PublishCall,
    broker: Broker,
    { pacer, stopping, traffic }: { readonly pacer: Pacer; readonly stopping: AbortSignal; readonly traffic: Traffic },
  ) {
    this.call = call;
    this.broker = broker;
    this.stopping = stopping;
    this.traffic = traffic;
    traffic.streams += 1;
    this.held = new HeldFrames(pacer, {
      mayTake: () => !this.isOver,
      take: (frame) => this.take(frame),
      changed: () => this.framesChanged(),
    });
    call.on("data", (frame: Decoded<PublishFrame>) => this.receive(frame));
    call.on("end", () => {
      this.isEnding = true;
      this.finish();
    });
    call.on("cancelled", () => this.over());
    call.on("error", () => this.over());
    call.on("drain", () => {
      this.isBlocked = false;
      this.write();
    });
    stopping.addEventListener("abort", this.leave, { once: true });
    if (stopping.aborted) this.leave();
  }

  private over(): void {
    if (!this.isOver) this.traffic.streams -= 1;
    this.isOver = true;
    this.stopping.removeEventListener("abort", this.leave);
  }

  private receive(frame: Decoded<PublishFrame>): void {
    if (!this.stopping.aborted) this.held.push(frame);
  }

  private framesChanged(): void {
    this.throttle();
    this.finish();
  }

  private take(frame: Decoded<PublishFrame>): void {
    if (this.isOver) return;
    if (frame.error !== null) {
      this.fail(frame.error);
      return;
    }
    const { open, batches } = frame.value;
    if (open !== null) {
      if (this.open !== null)
        return this.fail(new BrokerError("INVALID_ARGUMENT", "open may stand in the first message only", { field: "open" }));
      this.open = open;
    }
    if (this.open === null) return this.fail(new BrokerError("INVALID_ARGUMENT", "the first message must have open", { field: "open" }));
    for (const batch of batches) {
      if (batch.id !== this.nextId) {
        return this.fail(
          new BrokerError("INVALID_ARGUMENT", `batch id ${batch.id} stands where ${this.nextId} belongs: ids count up by one from 1`, {
            field: "batches.id",
          }),
        );
      }
      this.nextId += 1;
      this.publish(this.open, batch);
    }
  }

  private publish(open: PublishOpen, batch: StreamBatch): void {
    const { vhost, topic, producerId, producerEpoch, direct, exchange, mandatory } = open;
    const { id, partition, sequence, count, records, routingKey } = batch;
    this.traffic.batches += 1;
    this.inflightBatches += 1;
    this.inflightBytes += records.length;
    this.broker.publish(
      { vhost, topic, partition, partitionKey: null, records, count, producerId, producerEpoch, sequence, direct, exchange, routingKey },
      (error, _partition, baseOffset, stored, duplicate, routed) => {
        this.inflightBatches -= 1;
        this.inflightBytes -= records.length;
        const unroutable = mandatory ? (routed?.unroutable ?? NOTHING) : NOTHING;
        const ack = { firstId: id, batches: 1, partition, baseOffset, count: stored, duplicate, error };
        this.acknowledge({ ...ack, routed: routed?.copies ?? 0, unroutable });
      },
    );
  }

  private acknowledge(ack: Ack): void {
    if (this.isOver) return;
    const last = this.acks[this.acks.length - 1];
    const extendsLast =
      last !== undefined &&
      last.error === null &&
      ack.error === null &&
      !last.duplicate &&
      !ack.duplicate &&
      last.partition === ack.partition &&
      last.firstId + last.batches === ack.firstId &&
      last.unroutable.length + ack.unroutable.length === 0 &&
      // To an exchange there are no offsets.
      (last.baseOffset < 0 ? ack.baseOffset < 0 : last.baseOffset + last.count === ack.baseOffset);
    if (extendsLast) {
      last.batches += 1;
      last.routed += ack.routed;
      last.count += ack.count;
    } else this.acks.push(ack);
    if (this.writeScheduled) return;
    this.writeScheduled = true;
    // After everything that this turn acknowledges.
    queueMicrotask(() => {
      this.writeScheduled = false;
      this.write();
    });
  }

  private write(): void {
    if (this.isOver || this.isBlocked) return;
    while (this.acks.length > 0 && !this.isBlocked) {
      const acks = this.acks.length > FRAME_ACKS_MAX ? this.acks.splice(0, FRAME_ACKS_MAX) : this.acks;
      if (acks === this.acks) this.acks = [];
      this.isBlocked = !this.call.write(acks);
    }
    this.throttle();
    this.finish();
  }

  private throttle(): void {
    const full =
      this.isBlocked || this.held.isWaiting || this.inflightBatches >= INFLIGHT_BATCHES_MAX || this.inflightBytes >= INFLIGHT_BYTES_MAX;
    if (full === this.isPaused) return;
    this.isPaused = full;
    if (full) this.call.pause();
    else this.call.resume();
  }

  private finish(): void {
    if (!this.isEnding || this.isOver || this.inflightBatches > 0 || this.acks.length > 0 || this.held.size > 0) return;
    this.over();
    this.call.end();
  }

  private fail(error: BrokerError): void {
    this.over();
    this.call.emit("error", toStatus(error));
  }
}
