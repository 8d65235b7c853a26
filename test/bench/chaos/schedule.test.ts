import { expect, test } from "vitest";
import { Prng } from "../../../src/base/prng.ts";
import { possible } from "../../../bench/chaos/chaos.ts";
import { filled, commandKinds } from "../../../bench/chaos/commands.ts";
import { FAULTS, familyOf } from "../../../bench/chaos/faults/all.ts";
import type { Draw, FaultKind } from "../../../bench/chaos/fault.ts";
import { Schedule, type ScheduleOptions } from "../../../bench/chaos/schedule.ts";
import type { Tools } from "../../../bench/chaos/tools.ts";

const OPTIONS: ScheduleOptions = { seed: 5, kinds: FAULTS, nodes: [1, 2, 3, 4, 5], partitions: 6, scale: 1 };

/** What it draws, in words: a kind that writes down with what it was drawn stands for each. */
function drawn(options: ScheduleOptions, acts: number): { kind: string; act: number; victim: number; first: number }[] {
  const rows: { kind: string; act: number; victim: number; first: number }[] = [];
  let act = 0;
  const kinds = options.kinds.map((kind) => ({
    ...kind,
    draw: (draw: Draw) => {
      rows.push({ kind: kind.name, act, victim: draw.victim, first: draw.random.below(1_000_000) });
      return kind.draw(draw);
    },
  }));
  const schedule = new Schedule({ ...options, kinds });
  for (act = 1; act <= acts; act++) schedule.next();
  return rows;
}

test("schedule: the same seed draws the same, another one something else", () => {
  expect(drawn(OPTIONS, 200)).toEqual(drawn(OPTIONS, 200));
  expect(drawn({ ...OPTIONS, seed: 6 }, 200)).not.toEqual(drawn(OPTIONS, 200));
});

test("schedule: every kind comes before any comes again as the first of an act", () => {
  const schedule = new Schedule(OPTIONS);
  const first = Array.from({ length: FAULTS.length }, () => schedule.next().strikes[0]!.kind.name);
  expect(first.sort()).toEqual(FAULTS.map(({ name }) => name).sort());
});

test("schedule: only what mixes is paired, and never what takes data", () => {
  const schedule = new Schedule(OPTIONS);
  const pairs = Array.from({ length: 500 }, () => schedule.next().strikes).filter(({ length }) => length > 1);
  expect(pairs.length).toBeGreaterThan(40);
  for (const strikes of pairs)
    for (const { kind } of strikes) expect([kind.name, kind.mixes, kind.takesData]).toEqual([kind.name, true, undefined]);
});

test("schedule: damage moves to another node only after the first one's disk was emptied", () => {
  let damaged = 0;
  let moved = 0;
  for (const { kind, victim } of drawn(OPTIONS, 2_000)) {
    const { takesData } = FAULTS.find(({ name }) => name === kind)!;
    if (takesData === undefined) continue;
    if (damaged !== 0) expect(victim, kind).toBe(damaged);
    else moved += 1;
    damaged = takesData === "damages" ? victim : 0;
  }
  expect(moved).toBeGreaterThan(10);
});

test("what a machine or a cluster does not allow is skipped with its reason", () => {
  const tools: Tools = { missing: new Map([["nft", "it needs nft (Debian: apt-get install nftables)"]]), faketime: "" };
  const { kinds, skipped } = possible(FAULTS, tools, 3);
  expect(skipped).toContainEqual({ kind: "packet-loss", why: "it needs nft (Debian: apt-get install nftables)" });
  expect(skipped).toContainEqual({ kind: "ring", why: "it needs 4 nodes (--nodes 5)" });
  expect(kinds.length + skipped.length).toBe(FAULTS.length);
  expect(kinds.map(({ name }) => name)).toContain("kill");
});

test("commands of an owner get the names of a node put in, and their failure is no bite", async () => {
  const node = { id: 3, endpoint: "flotilla-2.flotilla:7440" };
  expect(filled("delete {index} of {node} at {host}", node)).toBe("delete 2 of 3 at flotilla-2.flotilla");
  const commands = { begin: ["exit {index}", "echo {host}"], end: [], secondsMin: 0, secondsMax: 0 };
  const kinds = commandKinds(commands, [node]);
  const strikes = kinds.map((kind: FaultKind) => kind.draw({ random: new Prng(1), nodes: [3], partitions: 1, scale: 1, victim: 3 }));
  const bites = [];
  for (const strike of strikes) {
    await strike.begin(null as never);
    bites.push(await strike.end(null as never));
  }
  expect(bites.map(({ bit }) => bit)).toEqual([false, true]);
  expect(bites[1]!.proof).toContain("flotilla-2.flotilla");
  expect(familyOf("command 1")).toBe("commands");
});
