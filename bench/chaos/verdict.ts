// What was violated, under the names that DESIGN and the simulator use, with the first findings of each in words.

export const INVARIANTS = {
  L0: "no acknowledged record is lost",
  L1: "what is read was sent, byte for byte",
  L2: "no record stands twice",
  L3: "the records of a producer, and so of a key, keep their order",
  L4: "offsets have no gaps, and one offset is one record on every replica, for ever",
  L5: "a reader never goes back and never skips",
  L6: "the end of a partition never goes back",
  L7: "a committed offset never goes back",
  Q1: "every message that a queue took is settled, or a dead letter, or still there",
  Q2: "one consumer at a time has a message, under a token of its own, and its attempts are counted",
  Q3: "under an old token nothing is settled",
  Q4: "what is acknowledged is never delivered again",
  Q5: "what is rejected, or was tried too often, is a dead letter, and nothing else is",
  Q8: "what is delayed is never delivered before its time",
  Q9: "messages of one key and priority are delivered in order for the first time",
  R4: "what replicas have applied is the same, as they compare it while they run",
  R9: "once a fault is over, everything is led, replicated and served again in time",
  crash: "no process ends by itself",
} as const;
export type Invariant = keyof typeof INVARIANTS;

/** Those that only a load with queues can violate. */
export function isOfQueues(invariant: string): boolean {
  return invariant.startsWith("Q");
}

/** Findings kept of one invariant; the others are counted. */
const TEXTS_MAX = 20;

export type Finding = { readonly invariant: Invariant; readonly count: number; readonly texts: readonly string[] };

export class Verdict {
  private readonly found = new Map<Invariant, { count: number; texts: string[] }>();
  private readonly told: (invariant: Invariant, text: string) => void;

  /** `told` hears of each finding that is kept. */
  constructor(told: (invariant: Invariant, text: string) => void = () => {}) {
    this.told = told;
  }

  report(invariant: Invariant, text: string): void {
    let known = this.found.get(invariant);
    if (known === undefined) this.found.set(invariant, (known = { count: 0, texts: [] }));
    known.count += 1;
    if (known.texts.length >= TEXTS_MAX) return;
    known.texts.push(text);
    this.told(invariant, text);
  }

  get violations(): number {
    let sum = 0;
    for (const { count } of this.found.values()) sum += count;
    return sum;
  }

  findings(): Finding[] {
    return [...this.found].map(([invariant, { count, texts }]) => ({ invariant, count, texts }));
  }
}
