// Virtual time: one queue of events, one source of chance. Whatever happens in a simulation is an event of this queue, and
// all promises that one event settles have run before the next one begins.

import { Prng, type Random } from "../../src/base/prng.ts";
import { allowStrays, forbidStrays, realImmediate } from "./strays.ts";
import { Trace } from "./trace.ts";

/** Whose event it is: those of a dead owner are dropped, those of a paused one wait. */
export interface Owner {
  readonly name: string;
  readonly isDead: boolean;
  /** Virtual microseconds until which nothing of this owner runs (a stopped process). */
  readonly pausedUntilUs: number;
  /** An event of its own threw, or a promise of its own was rejected and nobody cared, or it asked the real machine for something. */
  failed(error: Error): void;
}

/** More waiting events than this mean that something grows without bound. */
const EVENTS_WAITING_MAX = 200_000;
/** Events in one turn of Node's loop. */
const EVENTS_PER_TURN = 256;

export class SimEvent {
  atUs: number;
  readonly sequence: number;
  readonly owner: Owner;
  readonly kind: string;
  callback: (() => void) | null;

  constructor(atUs: number, sequence: number, owner: Owner, kind: string, callback: () => void) {
    this.atUs = atUs;
    this.sequence = sequence;
    this.owner = owner;
    this.kind = kind;
    this.callback = callback;
  }

  cancel(): void {
    this.callback = null;
  }
}

export class World {
  readonly random: Prng;
  readonly trace = new Trace();
  nowUs = 0;
  events = 0;
  /** Whose event runs. */
  current: Owner | null = null;
  /** Called after each event, with its owner. */
  afterEvent: (owner: Owner) => void = () => {};
  private readonly heap: SimEvent[] = [];
  private nextSequence = 0;

  constructor(seed: number) {
    this.random = new Prng(seed);
  }

  get nowMs(): number {
    return this.nowUs / 1_000;
  }

  /** A source of chance of its own, so that parts do not disturb each other more than they must. */
  fork(): Random {
    return new Prng(this.random.nextUint32());
  }

  after(delayUs: number, owner: Owner, kind: string, callback: () => void): SimEvent {
    const event = new SimEvent(this.nowUs + Math.max(1, Math.round(delayUs)), this.nextSequence++, owner, kind, callback);
    this.push(event);
    return event;
  }

  /** Runs events until virtual `untilUs`, or until `isOver`. */
  async run(untilUs: number, isOver: () => boolean = () => false): Promise<void> {
    const onRejection = (reason: unknown): void => {
      this.current?.failed(reason instanceof Error ? reason : new Error(String(reason)));
    };
    process.on("unhandledRejection", onRejection);
    try {
      // What was asked for before may have yet to come to its first event.
      await drained();
      await this.runEvents(untilUs, isOver);
      if (!isOver()) this.nowUs = Math.max(this.nowUs, untilUs);
    } finally {
      process.off("unhandledRejection", onRejection);
    }
  }

  /**
   * Each event runs in an immediate of its own. Node runs those of one turn of its loop one after the other, and between two
   * of them everything that promises can still do; so many are lined up at once, as a turn of the loop costs more than an event.
   */
  private runEvents(untilUs: number, isOver: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      let isDone = false;
      const end = (how: () => void): void => {
        isDone = true;
        how();
      };
      const step = (): void => {
        if (isDone) return;
        try {
          this.finishEvent();
          if (isOver() || !this.beginEvent(untilUs)) end(resolve);
        } catch (error) {
          end(() => reject(error as Error));
        }
      };
      const lineUp = (): void => {
        if (isDone) return;
        // Nothing of the simulation runs while Node's loop does whatever else it has to do.
        this.finishEvent();
        for (let count = 0; count < EVENTS_PER_TURN; count++) realImmediate(step);
        realImmediate(lineUp);
      };
      lineUp();
    });
  }

  /** Runs the next event up to its first promise; false when there is none until `untilUs`. */
  private beginEvent(untilUs: number): boolean {
    for (;;) {
      if (this.heap.length === 0 || this.heap[0]!.atUs > untilUs) return false;
      const event = this.pop();
      const { callback, owner } = event;
      if (callback === null || owner.isDead) continue;
      if (owner.pausedUntilUs > event.atUs) {
        event.atUs = owner.pausedUntilUs;
        this.push(event);
        continue;
      }
      this.nowUs = event.atUs;
      this.events += 1;
      this.carryOut(owner, event.kind, callback);
      return true;
    }
  }

  /**
   * The rest of the event that runs is what it does to another owner: the last thing that the event does, and all that it may have
   * left to promises is the other's. Only for one that is at work: whoever stands still has an event of its own coming.
   */
  handOver(owner: Owner, kind: string, callback: () => void): void {
    if (owner.isDead) return;
    this.carryOut(owner, kind, callback);
  }

  private carryOut(owner: Owner, kind: string, callback: () => void): void {
    this.trace.note(this.nowUs, owner.name, kind, 0, 0);
    this.current = owner;
    forbidStrays(owner);
    try {
      callback();
    } catch (error) {
      owner.failed(error as Error);
    }
  }

  /** All that the event's promises could do is done. */
  private finishEvent(): void {
    const owner = this.current;
    if (owner === null) return;
    allowStrays();
    this.afterEvent(owner);
    this.current = null;
  }

  private push(event: SimEvent): void {
    const { heap } = this;
    if (heap.length >= EVENTS_WAITING_MAX) throw new Error(`${heap.length} events wait: something grows without bound (${event.kind})`);
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  private pop(): SimEvent {
    const { heap } = this;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

/** Everything that a promise can still do here happens before the next phase of Node's own loop. */
function drained(): Promise<void> {
  return new Promise((resolve) => void realImmediate(resolve));
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.sequence < b.sequence);
}

/** An integer of low..high. */
export function between(random: Random, low: number, high: number): number {
  return low + random.below(high - low + 1);
}

/** True in `percent` of 100 cases. */
export function chance(random: Random, percent: number): boolean {
  return random.below(10_000) < percent * 100;
}

export function pick<T>(random: Random, list: readonly T[]): T {
  return list[random.below(list.length)]!;
}
