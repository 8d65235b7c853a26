// Datagrams: whole frames between two nodes are lost, doubled and overtaken, while the stream below them stays what it is. The
// consensus lane holds under all of it, as Raft asks nothing of a network. Forwarded requests and bulk keep their order, and are
// lost only with their connection: their senders are told so (peer/transport.ts), and count on being told.

import type { Random } from "../../src/base/prng.ts";
import { LANE_RAFT } from "../../src/peer/transport.ts";
import { chance } from "./world.ts";

/** Percent of the frames. */
export type Shuffle = { readonly lost: number; readonly doubled: number; readonly overtaken: number };

const HEADER_BYTES = 5;
/** Frames by which one may come late. */
const LATE_MAX = 4;

/** One direction of one connection. What goes in are the bytes of a stream, in pieces; what comes out are whole frames. */
export class FrameShuffler {
  private readonly random: Random;
  private readonly felt: (what: string) => void;
  private waiting: Buffer = Buffer.alloc(0);
  /** Frames that are overtaken, and by how many more. */
  private late: { readonly frame: Buffer; left: number }[] = [];

  constructor(random: Random, felt: (what: string) => void) {
    this.random = random;
    this.felt = felt;
  }

  /** `shuffle` null: all that is held back comes out, as soon as it is a whole frame. */
  pass(bytes: Buffer, shuffle: Shuffle | null): Buffer {
    this.waiting = this.waiting.length === 0 ? bytes : Buffer.concat([this.waiting, bytes]);
    const out: Buffer[] = [];
    while (this.waiting.length >= HEADER_BYTES) {
      const length = 4 + this.waiting.readUInt32LE(0);
      if (this.waiting.length < length) break;
      this.frame(this.waiting.subarray(0, length), shuffle, out);
      this.waiting = this.waiting.subarray(length);
    }
    if (shuffle === null) {
      for (const { frame } of this.late) out.push(frame);
      this.late = [];
    }
    return out.length === 1 ? out[0]! : Buffer.concat(out);
  }

  private frame(frame: Buffer, shuffle: Shuffle | null, out: Buffer[]): void {
    if (shuffle === null || frame[4] !== LANE_RAFT) {
      out.push(frame);
      return;
    }
    if (chance(this.random, shuffle.lost)) this.felt("frame lost");
    else if (chance(this.random, shuffle.overtaken)) {
      this.felt("frame overtaken");
      this.late.push({ frame, left: 1 + this.random.below(LATE_MAX) });
      return;
    } else {
      out.push(frame);
      if (chance(this.random, shuffle.doubled)) {
        this.felt("frame doubled");
        this.late.push({ frame, left: this.random.below(LATE_MAX) });
      }
    }
    for (const one of this.late) one.left -= 1;
    const due = this.late.filter(({ left }) => left < 0);
    if (due.length === 0) return;
    this.late = this.late.filter(({ left }) => left >= 0);
    for (const one of due) out.push(one.frame);
  }
}
