// What a stream is, said plainly: everything is kept, everything is searched.

import {
  STREAM_DUPLICATE,
  STREAM_FENCED,
  STREAM_OFFSET_OUT_OF_RANGE,
  STREAM_OK,
  STREAM_OUT_OF_SEQUENCE,
  STREAM_PRODUCER_UNKNOWN,
  STREAM_WOULD_GO_BACK,
} from "../../src/machine/stream/codes.ts";

export type Sent = { readonly id: number; readonly epoch: number; readonly sequence: number; readonly count: number };
export type Stored = Sent & { readonly offset: number; readonly index: number; readonly timeMs: number };
const DAY_MS = 24 * 60 * 60 * 1000;
const REMEMBERED = 8;

export class StreamModel {
  readonly stored: Stored[] = [];
  readonly voids: number[] = [];
  readonly cursors = new Map<string, number>();
  start = 0;
  end = 0;
  /** Producers that were forgotten: their batches up to this index do not count. */
  private readonly forgotten = new Map<number, number>();

  /** The batches of the producer's newest epoch that the stream remembers. */
  batchesOf(id: number): Stored[] {
    const known = this.stored.filter((one) => one.id === id && one.index > (this.forgotten.get(id) ?? 0));
    return known.filter(({ epoch }) => epoch === known[known.length - 1]!.epoch);
  }

  send(sent: Sent, index: number, timeMs: number): [code: number, value: number] {
    const [code, value] = sent.id === 0 ? [STREAM_OK, -1] : this.judge(sent);
    if (code !== STREAM_OK) {
      this.voids.push(index);
      return [code, value];
    }
    this.stored.push({ ...sent, offset: this.end, index, timeMs });
    this.end += sent.count;
    if (sent.id !== 0) {
      for (const id of new Set(this.stored.map((one) => one.id))) {
        const last = this.batchesOf(id).pop();
        if (id !== 0 && last !== undefined && last.timeMs + DAY_MS <= timeMs) this.forgotten.set(id, last.index);
      }
    }
    return [STREAM_OK, this.end - sent.count];
  }

  commit(name: string, offset: number, reset: boolean): number {
    if (offset > this.end) return STREAM_OFFSET_OUT_OF_RANGE;
    if (!reset && offset < (this.cursors.get(name) ?? 0)) return STREAM_WOULD_GO_BACK;
    this.cursors.set(name, offset);
    return STREAM_OK;
  }

  trim(offset: number): number {
    this.start = Math.min(Math.max(this.start, offset), this.end);
    return this.start;
  }

  private judge({ id, epoch, sequence, count }: Sent): [code: number, value: number] {
    const batches = this.batchesOf(id);
    const last = batches[batches.length - 1];
    if (last === undefined) return [sequence === 0 ? STREAM_OK : STREAM_PRODUCER_UNKNOWN, -1];
    if (epoch < last.epoch) return [STREAM_FENCED, -1];
    const expected = epoch > last.epoch ? 0 : last.sequence + last.count;
    if (sequence === expected) return [STREAM_OK, -1];
    if (epoch > last.epoch || sequence + count > expected) return [STREAM_OUT_OF_SEQUENCE, -1];
    const holder = batches.slice(-REMEMBERED).find((one) => one.sequence <= sequence && sequence + count <= one.sequence + one.count);
    return [STREAM_DUPLICATE, holder === undefined ? -1 : holder.offset + sequence - holder.sequence];
  }
}
