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
const NONE = Buffer.alloc(0);

/** One direction of one connection. What goes in are the bytes of a stream, in pieces; what comes out are whole frames. */
export class FrameShuffler {
  private readonly random: Random;
  private readonly felt: (what: string) => void;
  /** The beginning of a frame, in pieces; how many bytes they are, and how many have to be there before it can go on. */
  private waiting: Buffer[] = [];
  private waitingBytes = 0;
  private neededBytes = HEADER_BYTES;
  /** Frames that are overtaken, and by how many more. */
  private late: { readonly frame: Buffer; left: number }[] = [];

  constructor(random: Random, felt: (what: string) => void) {
    this.random = random;
    this.felt = felt;
  }

  /** `shuffle` null: all that is held back comes out, as soon as it is a whole frame. */
  pass(bytes: Buffer, shuffle: Shuffle | null): Buffer {
    this.waiting.push(bytes);
    this.waitingBytes += bytes.length;
    const out: Buffer[] = [];
    if (this.waitingBytes >= this.neededBytes) this.frames(shuffle, out);
    if (shuffle === null && this.late.length > 0) {
      for (const { frame } of this.late) out.push(frame);
      this.late = [];
    }
    return out.length === 1 ? out[0]! : out.length === 0 ? NONE : Buffer.concat(out);
  }

  /** Takes the frames that are whole out of what waits. Those that nobody may touch go on together, as they lie. */
  private frames(shuffle: Shuffle | null, out: Buffer[]): void {
    const all = this.waiting.length === 1 ? this.waiting[0]! : Buffer.concat(this.waiting);
    let at = 0;
    this.neededBytes = HEADER_BYTES;
    while (all.length - at >= HEADER_BYTES) {
      const length = 4 + all.readUInt32LE(at);
      if (all.length - at < length) {
        this.neededBytes = length;
        break;
      }
      if (shuffle !== null) this.frame(all.subarray(at, at + length), shuffle, out);
      at += length;
    }
    if (shuffle === null && at > 0) out.push(all.subarray(0, at));
    this.waiting = at === all.length ? [] : [all.subarray(at)];
    this.waitingBytes = all.length - at;
  }

  private frame(frame: Buffer, shuffle: Shuffle, out: Buffer[]): void {
    if (frame[4] !== LANE_RAFT) {
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
