// Measurements: each system in turn, several rounds, so that a machine whose speed drifts is fair to all.

import { costOf, difference, ownCost, type Cost } from "./accounting.ts";
import { spread, type Spread } from "./spread.ts";
import type { System } from "./system.ts";

/** What one round cost the system's own processes, and the load generator. */
export type RoundCost = { readonly servers: Cost; readonly client: Cost; readonly payloadBytes: number };

export type Point = Spread & {
  readonly system: string;
  readonly scenario: string;
  readonly unit: "msg/s" | "MB/s" | "ms";
  /** In the order in which they were measured: a round's values of all systems belong together. */
  readonly rounds: readonly number[];
  /** Of publishing as fast as it goes. */
  readonly load?: Load;
  readonly costs?: readonly RoundCost[];
  /** Where the time of the last round went. */
  readonly parts?: string;
};

export type Plan = {
  readonly seconds: number;
  readonly rounds: number;
  readonly sizes: readonly number[];
  readonly partitions: readonly number[];
  readonly progress: (text: string) => void;
};

export async function measureAll(systems: readonly System[], plan: Plan): Promise<Point[]> {
  const points: Point[] = [];
  for (const partitions of plan.partitions) {
    for (const bytes of plan.sizes) points.push(...(await measurePublish(systems, { partitions, bytes, unbatched: false }, plan)));
  }
  points.push(...(await measurePublish(systems, { partitions: 1, bytes: plan.sizes[0]!, unbatched: true }, plan)));
  points.push(...(await measureHalf(systems, points, plan)));
  points.push(...(await measureSequential(systems, plan)));
  points.push(...(await measureReplay(systems, plan)));
  return points;
}

export const SEQUENTIAL = "sequential 128 B";
export const REPLAY = "replay 1 KiB, 10 partitions";
export const AT_HALF = "at half of the peak rate";

export type Load = { readonly partitions: number; readonly bytes: number; readonly unbatched: boolean };

function scenarioOf({ partitions, bytes, unbatched }: Load): string {
  return `publish ${sizeName(bytes)}, ${partitions} partition${partitions === 1 ? "" : "s"}${unbatched ? ", unbatched" : ""}`;
}

async function measurePublish(systems: readonly System[], load: Load, plan: Plan): Promise<Point[]> {
  const { partitions, bytes, unbatched } = load;
  const scenario = scenarioOf(load);
  const rounds = new Map<System, (RoundCost & { rate: number })[]>(systems.map((system) => [system, []]));
  for (let round = 0; round < plan.rounds; round++) {
    for (const system of systems) {
      plan.progress(`${scenario}: ${system.name}, round ${round + 1} of ${plan.rounds}`);
      const target = await system.createTarget(partitions);
      await system.publish({ target, bytes, unbatched, seconds: Math.min(1, plan.seconds / 2), acked: () => {} });
      const before = { servers: costOf(system.pids), client: ownCost() };
      const start = performance.now();
      let acked = 0;
      await system.publish({ target, bytes, unbatched, seconds: plan.seconds, acked: (count) => (acked += count) });
      const rate = acked / ((performance.now() - start) / 1000);
      rounds.get(system)!.push({
        rate,
        servers: difference(costOf(system.pids), before.servers),
        client: difference(ownCost(), before.client),
        payloadBytes: acked * bytes,
      });
      await system.deleteTarget(target);
    }
  }
  return systems.map((system) => {
    const results = rounds.get(system)!;
    const rates = results.map(({ rate }) => rate);
    const costs = results.map(({ servers, client, payloadBytes }) => ({ servers, client, payloadBytes }));
    return { ...pointOf(system, scenario, "msg/s", rates), load, costs };
  });
}

async function measureSequential(systems: readonly System[], plan: Plan): Promise<Point[]> {
  const latencies = new Map<System, { p50: number[]; p99: number[] }>(systems.map((system) => [system, { p50: [], p99: [] }]));
  const parts = new Map<System, string>();
  for (let round = 0; round < plan.rounds; round++) {
    for (const system of systems) {
      plan.progress(`sequential publish: ${system.name}, round ${round + 1} of ${plan.rounds}`);
      const target = await system.createTarget(1);
      await system.sequential({ target, bytes: 128, seconds: Math.min(0.5, plan.seconds / 2) });
      const observed = await system.observe?.(target);
      const sorted = (await system.sequential({ target, bytes: 128, seconds: plan.seconds })).sort((a, b) => a - b);
      if (observed !== undefined) parts.set(system, await observed());
      latencies.get(system)!.p50.push(sorted[Math.floor(sorted.length * 0.5)]!);
      latencies.get(system)!.p99.push(sorted[Math.floor(sorted.length * 0.99)]!);
      await system.deleteTarget(target);
    }
  }
  return systems.flatMap((system) => {
    const { p50, p99 } = latencies.get(system)!;
    const median = withParts(pointOf(system, `${SEQUENTIAL}, p50`, "ms", p50), parts.get(system));
    return [median, pointOf(system, `${SEQUENTIAL}, p99`, "ms", p99)];
  });
}

/** Latency under half of the load that the system took at most, message by message when it was due. */
async function measureHalf(systems: readonly System[], peaks: readonly Point[], plan: Plan): Promise<Point[]> {
  const bytes = plan.sizes.includes(1024) ? 1024 : plan.sizes[0]!;
  const partitions = plan.partitions[0]!;
  const points: Point[] = [];
  for (const system of systems) {
    const peak = peaks.find(
      ({ system: name, scenario }) => name === system.name && scenario === scenarioOf({ partitions, bytes, unbatched: false }),
    );
    if (system.paced === undefined || peak === undefined) continue;
    const scenario = `${sizeName(bytes)} ${AT_HALF}`;
    const p50: number[] = [];
    const p99: number[] = [];
    let parts: string | undefined;
    for (let round = 0; round < plan.rounds; round++) {
      plan.progress(`${scenario}: ${system.name}, round ${round + 1} of ${plan.rounds}`);
      const target = await system.createTarget(partitions);
      const request = { target, bytes, rate: peak.median / 2 };
      await system.paced({ ...request, seconds: Math.min(1, plan.seconds / 2) });
      const observed = await system.observe?.(target);
      const sorted = Float64Array.from(await system.paced({ ...request, seconds: plan.seconds })).sort();
      parts = await observed?.();
      p50.push(sorted[Math.floor(sorted.length * 0.5)]!);
      p99.push(sorted[Math.floor(sorted.length * 0.99)]!);
      await system.deleteTarget(target);
    }
    points.push(pointOf(system, `${scenario}, p50`, "ms", p50), withParts(pointOf(system, `${scenario}, p99`, "ms", p99), parts));
  }
  return points;
}

async function measureReplay(systems: readonly System[], plan: Plan): Promise<Point[]> {
  const points: Point[] = [];
  for (const system of systems) {
    if (system.replay === undefined) continue;
    const target = await system.createTarget(10);
    await system.publish({ target, bytes: 1024, seconds: plan.seconds, acked: () => {} });
    const rates: number[] = [];
    for (let round = 0; round < plan.rounds; round++) {
      plan.progress(`replay: ${system.name}, round ${round + 1} of ${plan.rounds}`);
      const start = performance.now();
      const { bytes } = await system.replay(target);
      rates.push(bytes / 1e6 / ((performance.now() - start) / 1000));
    }
    points.push(pointOf(system, REPLAY, "MB/s", rates));
    await system.deleteTarget(target);
  }
  return points;
}

function pointOf(system: System, scenario: string, unit: Point["unit"], rounds: readonly number[]): Point {
  return { system: system.name, scenario, unit, rounds, ...spread(rounds) };
}

function withParts(point: Point, parts: string | undefined): Point {
  return parts === undefined ? point : { ...point, parts };
}

export function sizeName(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`;
}
