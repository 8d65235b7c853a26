// The results as tables for people. Ratios are of medians of the same run; for latencies the ratio is turned round, so
// that above 1 always means better than the peer.

import type { Ceiling } from "./ceiling.ts";
import type { Point } from "./measure.ts";
import type { System } from "./system.ts";

export type Report = {
  readonly systems: readonly { name: string; version: string; settings: string }[];
  readonly ceiling: Ceiling;
  readonly points: readonly Point[];
};

export function reportOf(systems: readonly System[], ceiling: Ceiling, points: readonly Point[]): Report {
  return { systems: systems.map(({ name, version, settings }) => ({ name, version, settings })), ceiling, points };
}

export function render(report: Report): string {
  const names = report.systems.map(({ name }) => name);
  const scenarios = [...new Set(report.points.map(({ scenario }) => scenario))];
  const find = (system: string, scenario: string): Point | undefined =>
    report.points.find((point) => point.system === system && point.scenario === scenario);
  const peers = names.filter((name) => name !== "flotilla");
  const rows = [["scenario", ...names.map((name) => `${name} (min..max)`), ...(peers.length > 0 ? ["ratio to the better peer"] : [])]];
  for (const scenario of scenarios) {
    const row = [scenario, ...names.map((name) => value(find(name, scenario)))];
    if (peers.length > 0)
      row.push(
        ratio(
          find("flotilla", scenario),
          peers.flatMap((name) => find(name, scenario) ?? []),
        ),
      );
    rows.push(row);
  }
  const costs = [["scenario", "system", "server CPU s", "client CPU s", "MB written", "bytes written per payload byte and replica"]];
  for (const { scenario, system, servers, client, payloadBytes } of report.points) {
    if (servers === undefined || client === undefined || payloadBytes === undefined) continue;
    costs.push([
      scenario,
      system,
      servers.cpuSeconds.toFixed(2),
      client.cpuSeconds.toFixed(2),
      (servers.writtenBytes / 1e6).toFixed(0),
      (servers.writtenBytes / payloadBytes / 3).toFixed(2),
    ]);
  }
  const about = report.systems.map(({ name, version, settings }) => `${name} ${version}: ${settings}`).join("\n");
  return `${table(rows)}\n\n${table(costs)}\n\n${about}\n${ceilingText(report)}`;
}

/** How near the largest messages come to what the parts of the machine allow. */
function ceilingText({ ceiling, points }: Report): string {
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(0);
  const parts = `raw disk, 3 writers: ${mb(ceiling.diskBytesPerSecond)} MB/s; raw loopback, 3 connections: ${mb(ceiling.loopbackBytesPerSecond)} MB/s; three copies and three transfers of every byte: at most ${mb(ceiling.payloadBytesPerSecond)} MB/s\n`;
  const own = points.filter(({ system, unit, bytes }) => system === "flotilla" && unit === "msg/s" && (bytes ?? 0) >= 16_384);
  const lines = own.map(({ scenario, median, bytes }) => {
    const rate = median * bytes!;
    return `${scenario}: ${mb(rate)} MB/s, ${(rate / ceiling.payloadBytesPerSecond).toFixed(2)} of that\n`;
  });
  return parts + lines.join("");
}

function value(point: Point | undefined): string {
  if (point === undefined) return "-";
  const digits = point.unit === "ms" ? 2 : 0;
  const text = (number: number): string => number.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  return `${text(point.median)} ${point.unit} (${text(point.min)}..${text(point.max)})`;
}

function ratio(own: Point | undefined, peers: readonly Point[]): string {
  if (own === undefined || peers.length === 0) return "-";
  if (own.unit === "ms") return (Math.min(...peers.map(({ median }) => median)) / own.median).toFixed(2);
  return (own.median / Math.max(...peers.map(({ median }) => median))).toFixed(1);
}

/** Columns as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
