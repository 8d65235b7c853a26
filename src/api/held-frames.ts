// Frames of one stream that wait for their slice of the event loop, in order: a frame may be a thousand batches, and there may be
// thousands of streams.

import type { Pacer } from "../base/pacer.ts";

export type FrameEvents<Frame> = {
  /** Until it does, frames stay here; `go` looks again. */
  readonly mayTake: () => boolean;
  readonly take: (frame: Frame) => void;
  /** Whether any wait for their slice may have changed: called last, with all that may be taken taken. */
  readonly changed: () => void;
};

export class HeldFrames<Frame> {
  private readonly pacer: Pacer;
  private readonly events: FrameEvents<Frame>;
  private frames: Frame[] = [];
  /** For a slice: nothing more is to be read from the client meanwhile. */
  isWaiting = false;

  constructor(pacer: Pacer, events: FrameEvents<Frame>) {
    this.pacer = pacer;
    this.events = events;
  }

  get size(): number {
    return this.frames.length;
  }

  push(frame: Frame): void {
    this.frames.push(frame);
    if (!this.isWaiting) this.go();
  }

  /** The rest of a frame that was taken comes next. */
  putBack(frame: Frame): void {
    this.frames.unshift(frame);
  }

  clear(): void {
    this.frames = [];
  }

  go(): void {
    const { pacer, events } = this;
    while (this.frames.length > 0 && events.mayTake()) {
      const turn = pacer.turn();
      if (turn !== null) {
        this.isWaiting = true;
        events.changed();
        const go = (): void => {
          this.isWaiting = false;
          if (this.frames.length > 0 && events.mayTake()) events.take(this.frames.shift()!);
          this.go();
        };
        turn.then(go, go);
        return;
      }
      events.take(this.frames.shift()!);
    }
    events.changed();
  }
}
