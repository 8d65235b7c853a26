// Which faults strike, in which order and how: drawn from a seed and from nothing else.

import { Prng } from "../../src/base/prng.ts";
import { pick, type Draw, type FaultKind, type Strike } from "./fault.ts";
import { shuffled } from "./shapes.ts";

export type PlannedStrike = { readonly kind: FaultKind; readonly strike: Strike };
/** One fault, or two that overlap: the second begins when the first has lasted for `overlap` of its time. */
export type Act = {
  readonly number: number;
  readonly strikes: readonly PlannedStrike[];
  readonly overlap: number;
  /** Calm before it. */
  readonly calmSeconds: number;
};

export type ScheduleOptions = {
  readonly seed: number;
  readonly kinds: readonly FaultKind[];
  readonly nodes: readonly number[];
  readonly partitions: number;
  readonly scale: number;
};

/** Of a hundred acts, those with a second fault beside the first where both allow it. */
const PAIRS_PERCENT = 30;
const CALM_SECONDS = [0.3, 0.8, 2, 4];

export class Schedule {
  private readonly options: ScheduleOptions;
  private readonly random: Prng;
  /** Every kind once, in a drawn order, then again. */
  private deck: FaultKind[] = [];
  private count = 0;
  private damaged: number | null = null;

  constructor(options: ScheduleOptions) {
    this.options = options;
    this.random = new Prng(options.seed);
  }

  next(): Act {
    const { random } = this;
    const { kinds, scale } = this.options;
    if (this.deck.length === 0) this.deck = shuffled(kinds, random);
    const first = this.deck.pop()!;
    const others = kinds.filter((kind) => kind !== first && kind.mixes === true);
    const isPair = first.mixes === true && random.below(100) < PAIRS_PERCENT && others.length > 0;
    const chosen = isPair ? [first, pick(random, others)] : [first];
    this.count += 1;
    return {
      number: this.count,
      strikes: chosen.map((kind) => ({ kind, strike: this.draw(kind) })),
      overlap: random.below(100) / 100,
      calmSeconds: scale * pick(random, CALM_SECONDS),
    };
  }

  private draw(kind: FaultKind): Strike {
    const { nodes, partitions, scale } = this.options;
    const { random } = this;
    const victim = this.damaged ?? pick(random, nodes);
    if (kind.takesData !== undefined) this.damaged = kind.takesData === "damages" ? victim : null;
    // A stream of its own, so that a kind that draws more one day leaves the others as they are.
    const draw: Draw = { random: new Prng(random.nextUint32()), nodes, partitions, scale, victim };
    return kind.draw(draw);
  }
}
