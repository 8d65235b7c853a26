// The results as tables for people. Ratios are of the same round; for latencies they are turned round, so that above 1
// always means better than the peer.

import type { Ceiling } from "./ceiling.ts";
import type { Point, RoundCost } from "./measure.ts";
import { spread, type Spread } from "./spread.ts";
import type { System } from "./system.ts";
import { table } from "./table.ts";

/** Replicas of every payload byte. */
const COPIES = 3;

export type Report = {
  readonly systems: readonly { name: string; version: string; settings: string }[];
  readonly ceiling: Ceiling;
  readonly points: readonly Point[];
};

export function reportOf(systems: readonly System[], ceiling: Ceiling, points: readonly Point[]): Report {
  return { systems: systems.map(({ name, version, settings }) => ({ name, version, settings })), ceiling, points };
}

export function pointOf({ points }: Report, system: string, scenario: string): Point | undefined {
  return points.find((point) => point.system === system && point.scenario === scenario);
}

/** How many times as good as the better of the peers, round by round; null without a peer that was measured. */
export function advantage(report: Report, scenario: string, peers: readonly string[] = peersOf(report)): Spread | null {
  const own = pointOf(report, "flotilla", scenario);
  const others = peers.flatMap((name) => pointOf(report, name, scenario) ?? []);
  if (own === undefined || others.length === 0) return null;
  return spread(
    own.rounds.map((value, round) => {
      const theirs = others.map(({ rounds }) => rounds[round]!);
      return own.unit === "ms" ? Math.min(...theirs) / value : value / Math.max(...theirs);
    }),
  );
}

function peersOf({ systems }: Report): string[] {
  return systems.map(({ name }) => name).filter((name) => name !== "flotilla");
}

export function writtenPerByte({ servers, payloadBytes }: RoundCost): number {
  return servers.writtenBytes / payloadBytes / COPIES;
}

export function ceilingText({ diskBytesPerSecond, loopbackBytesPerSecond, payloadBytesPerSecond }: Ceiling): string {
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(0);
  return `raw disk, 3 writers: ${mb(diskBytesPerSecond)} MB/s; raw loopback, 3 connections: ${mb(loopbackBytesPerSecond)} MB/s; three copies and three transfers of every byte: at most ${mb(payloadBytesPerSecond)} MB/s`;
}

export function render(report: Report): string {
  const names = report.systems.map(({ name }) => name);
  const scenarios = [...new Set(report.points.map(({ scenario }) => scenario))];
  const hasPeers = peersOf(report).length > 0;
  const rows = [["scenario", ...names.map((name) => `${name} (min..max)`), ...(hasPeers ? ["ratio to the better peer"] : [])]];
  for (const scenario of scenarios) {
    const row = [scenario, ...names.map((name) => value(pointOf(report, name, scenario)))];
    if (hasPeers) row.push(advantage(report, scenario)?.median.toFixed(2) ?? "-");
    rows.push(row);
  }
  const costs = [["scenario", "system", "server CPU s", "client CPU s", "MB written", "bytes written per payload byte and replica"]];
  for (const { scenario, system, costs: rounds } of report.points) {
    if (rounds === undefined) continue;
    const middle = (of: (round: RoundCost) => number): number => spread(rounds.map(of)).median;
    costs.push([
      scenario,
      system,
      middle(({ servers }) => servers.cpuSeconds).toFixed(2),
      middle(({ client }) => client.cpuSeconds).toFixed(2),
      middle(({ servers }) => servers.writtenBytes / 1e6).toFixed(0),
      middle(writtenPerByte).toFixed(2),
    ]);
  }
  const parts = report.points.flatMap(({ scenario, parts: text }) =>
    text === undefined ? [] : [`${scenario}, where the time goes:\n  ${text}\n`],
  );
  const about = report.systems.map(({ name, version, settings }) => `${name} ${version}: ${settings}`).join("\n");
  return `${table(rows)}\n\n${table(costs)}\n\n${parts.join("")}\n${about}\n${ceilingText(report.ceiling)}\n`;
}

function value(point: Point | undefined): string {
  if (point === undefined) return "-";
  const digits = point.unit === "ms" ? 2 : 0;
  const text = (number: number): string => number.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  return `${text(point.median)} ${point.unit} (${text(point.min)}..${text(point.max)})`;
}
