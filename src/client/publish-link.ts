// One PublishStream to one node, shared by all partitions that are sent there: everything of a turn leaves in one write.

import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import { DecodeError } from "../base/bytes.ts";
import { FRAME_BATCHES_MAX } from "../base/limits.ts";
import { ProtoWriter } from "../base/protobuf.ts";
import { FlotillaError, fromGrpc } from "./errors.ts";
import { decodeAcks, encodeBatch, encodeOpen, frameInPlace, toBuffer, type Ack, type OutgoingBatch, type PublishOpen } from "./wire.ts";

/** Bytes of one frame; a larger batch travels alone. A quarter of the server's limit. */
const FRAME_BYTES_MAX = 1024 * 1024;
/** A batch of so many bytes makes a frame of its own, without being copied. */
const ALONE_BYTES_MIN = 16 * 1024;

export type BatchOutcome = { readonly baseOffset: number; readonly duplicate: boolean; readonly error: FlotillaError | null };

export class PublishLink<Batch extends OutgoingBatch> {
  readonly endpoint: string;
  /** The epoch that it was opened with. */
  readonly epoch: number;
  private readonly stream: ClientDuplexStream<Buffer, Buffer>;
  private readonly open: PublishOpen;
  private readonly acked: (batch: Batch, outcome: BatchOutcome) => void;
  private readonly lost: (link: PublishLink<Batch>, error: FlotillaError) => void;
  private readonly outstanding = new Map<number, Batch>();
  private waiting: Batch[] = [];
  private nextId = 1;
  private flushScheduled = false;
  private isBlocked = false;
  /** Ticks in a row without an answer while batches wait for one. */
  silentTicks = 0;
  isClosed = false;

  constructor(
    endpoint: string,
    stream: ClientDuplexStream<Buffer, Buffer>,
    open: PublishOpen,
    events: { acked: (batch: Batch, outcome: BatchOutcome) => void; lost: (link: PublishLink<Batch>, error: FlotillaError) => void },
  ) {
    this.endpoint = endpoint;
    this.epoch = open.epoch;
    this.stream = stream;
    this.open = open;
    this.acked = events.acked;
    this.lost = events.lost;
    stream.on("data", (bytes: Buffer) => this.receive(bytes));
    stream.on("error", (error) => this.end(fromGrpc(error as ServiceError)));
    stream.on("end", () => this.end(new FlotillaError("UNREACHABLE", "the node ended the stream", { maybeApplied: true })));
    stream.on("drain", () => {
      this.isBlocked = false;
      this.flush();
    });
  }

  send(batch: Batch): void {
    this.waiting.push(batch);
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    queueMicrotask(() => {
      this.flushScheduled = false;
      this.flush();
    });
  }

  /** A moment passed; returns how many in a row the node has left batches without any answer. */
  tick(): number {
    this.silentTicks = this.outstanding.size + this.waiting.length > 0 ? this.silentTicks + 1 : 0;
    return this.silentTicks;
  }

  /** The node is taken for lost though its connection stands: what is under way has no known outcome. */
  giveUp(error: FlotillaError): void {
    this.stream.cancel();
    this.end(error);
  }

  /** Ends the stream; nothing more is reported. */
  close(): void {
    this.isClosed = true;
    this.stream.cancel();
  }

  private flush(): void {
    if (this.isClosed || this.waiting.length === 0) return;
    if (this.nextId === 1) {
      const writer = new ProtoWriter(256);
      encodeOpen(writer, this.open);
      this.stream.write(toBuffer(writer));
    }
    while (!this.isClosed && !this.isBlocked && this.waiting.length > 0) this.isBlocked = !this.stream.write(this.nextFrame());
  }

  private nextFrame(): Buffer {
    const first = this.waiting[0]!;
    if (first.records.length >= ALONE_BYTES_MIN && first.sends === 1) {
      this.waiting.shift();
      return frameInPlace(this.number(first), first);
    }
    const writer = new ProtoWriter(Math.min(FRAME_BYTES_MAX, first.records.length + 1024));
    let taken = 0;
    while (taken < Math.min(this.waiting.length, FRAME_BATCHES_MAX)) {
      const batch = this.waiting[taken]!;
      if (taken > 0 && (batch.records.length >= ALONE_BYTES_MIN || writer.length + batch.records.length > FRAME_BYTES_MAX)) break;
      encodeBatch(writer, this.number(batch), batch);
      taken += 1;
    }
    this.waiting.splice(0, taken);
    return toBuffer(writer);
  }

  private number(batch: Batch): number {
    this.outstanding.set(this.nextId, batch);
    return this.nextId++;
  }

  private receive(bytes: Buffer): void {
    this.silentTicks = 0;
    let acks: Ack[];
    try {
      acks = decodeAcks(bytes);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.stream.cancel();
      this.end(
        new FlotillaError("INTERNAL", `the node sent acknowledgements that are no message: ${error.message}`, {
          maybeApplied: true,
          cause: error,
        }),
      );
      return;
    }
    for (const ack of acks) {
      let offset = ack.baseOffset;
      for (let id = ack.firstId; id < ack.firstId + ack.batches; id++) {
        const batch = this.outstanding.get(id);
        if (batch === undefined || this.isClosed) continue;
        this.outstanding.delete(id);
        this.acked(batch, { baseOffset: offset, duplicate: ack.duplicate, error: ack.error });
        offset += batch.count;
      }
    }
  }

  private end(error: FlotillaError): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.lost(this, error);
  }
}
