// Carries a schedule out: strikes, waits until the cluster is whole again, and writes down what each fault did to clients.

import { setTimeout as delay } from "node:timers/promises";
import type { Bite, Strike, World } from "./fault.ts";
import type { Act, PlannedStrike } from "./schedule.ts";
import { GAP_MS, type Timeline } from "./timeline.ts";
import type { Verdict } from "./verdict.ts";

/** Once all is whole: producers try again at the latest after a few seconds. */
const SERVED_MS_MAX = 60_000;
const SERVED_LOOK_MS = 20;

export type FaultRecord = {
  readonly act: number;
  readonly kind: string;
  /** Whom, and how. */
  readonly detail: string;
  /** What it really did; `bit` false: nothing. */
  readonly bit: boolean;
  readonly proof: string;
  /** In ms since the start of the run: when it began, ended, and when everything was whole again; -1 = never. */
  readonly beganMs: number;
  readonly endedMs: number;
  readonly wholeMs: number;
  /** Longest time of any partition without an acknowledgement, from its act's beginning until everything was whole. */
  readonly longestGapMs: number;
  /** Partitions for which that was longer than `GAP_MS`. */
  readonly partitionsDown: number;
};

/** Where a strike happens: our own cluster, or somebody's. */
export type Battlefield = {
  readonly world: () => World;
  /** Resolves with true once everything is led, replicated and served again; false after the bound. */
  readonly whole: () => Promise<boolean>;
  /** What to look at when it is not. */
  readonly state: () => Promise<string>;
};

export type NemesisParts = {
  readonly verdict: Verdict;
  readonly timeline: Timeline;
  readonly now: () => number;
  readonly progress: (text: string) => void;
};

type Running = { readonly plan: PlannedStrike; readonly beganMs: number; detail: string; bite: Bite; endedMs: number };

export class Nemesis {
  readonly records: FaultRecord[] = [];
  private readonly parts: NemesisParts;
  private readonly field: Battlefield;
  private readonly active = new Set<Strike>();
  /** The cluster is not whole any more: nothing further can be learned from it. */
  isLost = false;

  constructor(parts: NemesisParts, field: Battlefield) {
    this.parts = parts;
    this.field = field;
  }

  async carryOut(act: Act): Promise<void> {
    const { now, timeline, verdict, progress } = this.parts;
    await delay(act.calmSeconds * 1_000);
    timeline.takeLongest();
    const [first, second] = act.strikes;
    const running: Running[] = [];
    const strikes = [this.strike(first!, 0, running)];
    if (second !== undefined) strikes.push(this.strike(second, act.overlap * first!.strike.seconds, running));
    await Promise.all(strikes);
    const hasHealed = await this.field.whole();
    const isWhole = hasHealed && (await this.isServed());
    const wholeMs = isWhole ? now() : -1;
    const gaps = timeline.takeLongest();
    const longestGapMs = Math.round(Math.max(0, ...gaps));
    for (const { plan, detail, bite, beganMs, endedMs } of running) {
      const { name, healsWithinSeconds = 0 } = plan.kind;
      if (isWhole && healsWithinSeconds > 0 && wholeMs - beganMs > healsWithinSeconds * 1_000)
        verdict.report(
          "R9",
          `${name}: whole again after ${((wholeMs - beganMs) / 1_000).toFixed(1)} s, and not within ${healsWithinSeconds}`,
        );
      const partitionsDown = gaps.filter((ms) => ms >= GAP_MS).length;
      const record = { act: act.number, kind: name, detail, ...bite, beganMs, endedMs, wholeMs, longestGapMs, partitionsDown };
      this.records.push(record);
      progress(`  ${record.kind}: ${detail}: ${bite.bit ? "" : "DID NOT BITE: "}${bite.proof}`);
    }
    const lastMs = Math.max(...running.map(({ endedMs }) => endedMs));
    const again = isWhole ? `${((wholeMs - lastMs) / 1_000).toFixed(1)} s after` : "NEVER";
    progress(`  longest time of a partition without acknowledgements ${longestGapMs} ms; whole again ${again}`);
    if (isWhole) return;
    this.isLost = true;
    const state = hasHealed ? "not every partition acknowledges records" : await this.field.state();
    verdict.report("R9", `not whole again after ${act.strikes.map(({ kind }) => kind.name).join(" and ")}: ${state}`);
  }

  /** Whatever nodes say of themselves: clients are served, in every partition, from now on. */
  private async isServed(): Promise<boolean> {
    const { now, timeline } = this.parts;
    for (const sinceMs = now(); !timeline.isServedSince(sinceMs); await delay(SERVED_LOOK_MS))
      if (now() - sinceMs > SERVED_MS_MAX) return false;
    return true;
  }

  /** Ends whatever is under way. */
  async abort(): Promise<void> {
    for (const strike of this.active) await strike.end(this.field.world()).catch(() => {});
    this.active.clear();
  }

  private async strike(plan: PlannedStrike, waitSeconds: number, running: Running[]): Promise<void> {
    const { now } = this.parts;
    const { strike } = plan;
    await delay(waitSeconds * 1_000);
    const mine: Running = { plan, beganMs: now(), detail: "", bite: { bit: false, proof: "" }, endedMs: 0 };
    running.push(mine);
    this.active.add(strike);
    try {
      mine.detail = await strike.begin(this.field.world());
      await delay(strike.seconds * 1_000);
    } catch (error) {
      mine.detail = `it could not begin: ${(error as Error).message}`;
    }
    try {
      mine.bite = await strike.end(this.field.world());
    } catch (error) {
      mine.bite = { bit: false, proof: `it could not end: ${(error as Error).message}` };
    }
    this.active.delete(strike);
    mine.endedMs = now();
  }
}
