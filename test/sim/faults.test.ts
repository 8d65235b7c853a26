// Each fault is felt, and the cluster comes through it. One class at a time, so that nothing else can have done it.

import { expect, test } from "vitest";
import { FAULTS, optionsOf, type Fault } from "./options.ts";
import { Simulation } from "./simulation.ts";

/** What must be counted beside the strike itself; of the others the strike is what is felt. */
const FELT: Partial<Record<Fault, readonly string[]>> = {
  effect: ["felt: death "],
  partition: ["felt: packet held"],
  oneway: ["felt: packet held"],
  reset: ["felt: reset"],
  stall: ["felt: stream stalled"],
  halfopen: ["felt: stream half-open"],
  datagram: ["felt: frame lost", "felt: frame doubled", "felt: frame overtaken"],
  clientcut: ["felt: call lost"],
  eio: ["felt: eio"],
  deaddisk: ["felt: eio"],
  badsector: ["felt: badsector"],
  enospc: ["felt: enospc"],
  drain: ["felt: node drained"],
  forget: ["felt: node forgotten"],
};

const run = (seed: number, fault: Fault): ReturnType<Simulation["run"]> => {
  const options = optionsOf({ seed, faults: [fault], nodes: fault === "forget" ? 4 : 3, groups: 4, seconds: 20 });
  return new Simulation({ ...options, faultEveryMs: 800, recordBytesMax: 2_000, scrubPauseMs: 500, segmentBytes: 64 * 1024 }).run();
};

test.each(FAULTS)("%s strikes, is felt, and is survived", { timeout: 120_000 }, async (fault) => {
  const wanted = [fault, ...(FELT[fault] ?? [])];
  const counts = new Map<string, number>();
  const missing = (): string[] => wanted.filter((name) => ![...counts.keys()].some((key) => key.startsWith(name)));
  for (let seed = 1; seed <= 5 && (seed === 1 || missing().length > 0); seed++) {
    const { failure, faults } = await run(seed, fault);
    expect(failure, `seed ${seed}`).toBeNull();
    for (const [name, times] of faults) counts.set(name, (counts.get(name) ?? 0) + times);
  }
  expect(missing()).toEqual([]);
});
