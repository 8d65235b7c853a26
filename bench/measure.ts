// Measurements: each system in turn, several rounds, so that a machine whose speed drifts is fair to all.

import { costOf, difference, ownCost, type Cost } from "./accounting.ts";
import type { System } from "./system.ts";

export type Point = {
  readonly system: string;
  readonly scenario: string;
  readonly unit: "msg/s" | "MB/s" | "ms";
  /** Of all rounds. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Per round, of the system's own processes, and of the load generator. */
  readonly servers?: Cost;
  readonly client?: Cost;
  readonly payloadBytes?: number;
  /** Of one message. */
  readonly bytes?: number;
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

type Load = { readonly partitions: number; readonly bytes: number; readonly unbatched: boolean };

function scenarioOf({ partitions, bytes, unbatched }: Load): string {
  return `publish ${sizeName(bytes)}, ${partitions} partition${partitions === 1 ? "" : "s"}${unbatched ? ", unbatched" : ""}`;
}

async function measurePublish(systems: readonly System[], load: Load, plan: Plan): Promise<Point[]> {
  const { partitions, bytes, unbatched } = load;
  const scenario = scenarioOf(load);
  const rounds = new Map<System, { rate: number; servers: Cost; client: Cost; payloadBytes: number }[]>(
    systems.map((system) => [system, []]),
  );
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
    const middle = [...results].sort((a, b) => a.rate - b.rate)[Math.floor(results.length / 2)]!;
    return {
      system: system.name,
      scenario,
      unit: "msg/s" as const,
      ...spread(results.map(({ rate }) => rate)),
      servers: middle.servers,
      client: middle.client,
      payloadBytes: middle.payloadBytes,
      bytes,
    };
  });
}

async function measureSequential(systems: readonly System[], plan: Plan): Promise<Point[]> {
  const latencies = new Map<System, { p50: number[]; p99: number[] }>(systems.map((system) => [system, { p50: [], p99: [] }]));
  for (let round = 0; round < plan.rounds; round++) {
    for (const system of systems) {
      plan.progress(`sequential publish: ${system.name}, round ${round + 1} of ${plan.rounds}`);
      const target = await system.createTarget(1);
      await system.sequential({ target, bytes: 128, seconds: Math.min(0.5, plan.seconds / 2) });
      const sorted = (await system.sequential({ target, bytes: 128, seconds: plan.seconds })).sort((a, b) => a - b);
      latencies.get(system)!.p50.push(sorted[Math.floor(sorted.length * 0.5)]!);
      latencies.get(system)!.p99.push(sorted[Math.floor(sorted.length * 0.99)]!);
      await system.deleteTarget(target);
    }
  }
  return systems.flatMap((system) => {
    const { p50, p99 } = latencies.get(system)!;
    return [
      { system: system.name, scenario: "sequential 128 B, p50", unit: "ms" as const, ...spread(p50) },
      { system: system.name, scenario: "sequential 128 B, p99", unit: "ms" as const, ...spread(p99) },
    ];
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
    const scenario = `${sizeName(bytes)} at half of the peak rate`;
    const p50: number[] = [];
    const p99: number[] = [];
    for (let round = 0; round < plan.rounds; round++) {
      plan.progress(`${scenario}: ${system.name}, round ${round + 1} of ${plan.rounds}`);
      const target = await system.createTarget(partitions);
      const request = { target, bytes, rate: peak.median / 2 };
      await system.paced({ ...request, seconds: Math.min(1, plan.seconds / 2) });
      const sorted = Float64Array.from(await system.paced({ ...request, seconds: plan.seconds })).sort();
      p50.push(sorted[Math.floor(sorted.length * 0.5)]!);
      p99.push(sorted[Math.floor(sorted.length * 0.99)]!);
      await system.deleteTarget(target);
    }
    points.push(
      { system: system.name, scenario: `${scenario}, p50`, unit: "ms", ...spread(p50) },
      { system: system.name, scenario: `${scenario}, p99`, unit: "ms", ...spread(p99) },
    );
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
    points.push({ system: system.name, scenario: "replay 1 KiB, 10 partitions", unit: "MB/s", ...spread(rates) });
    await system.deleteTarget(target);
  }
  return points;
}

function spread(values: readonly number[]): { median: number; min: number; max: number } {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)]!, min: sorted[0]!, max: sorted[sorted.length - 1]! };
}

export function sizeName(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`;
}
