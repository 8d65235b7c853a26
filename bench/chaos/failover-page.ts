// The distributions as one page without anything from elsewhere: every gap is a dot on a logarithmic scale of time.

import { distributionOf } from "./failover-gaps.ts";
import { gapsOf, kindsIn, type FailoverReport } from "./failover-report.ts";
import { FAILOVER_KINDS } from "./failover-target.ts";

const WIDTH = 860;
const LEFT = 110;
const ROW = 34;
const TOP = 24;
const DECADES = [1, 10, 100, 1_000, 10_000, 100_000] as const;
const COLOURS: Readonly<Record<string, string>> = { flotilla: "#0b6bcb", rabbitmq: "#d9730d", nats: "#2f9e44" };

export function failoverPage(report: FailoverReport): string {
  const charts = kindsIn(report).map((kind) => {
    const { what, wanted } = FAILOVER_KINDS[kind];
    const rows = report.systems
      .map(({ name }) => ({ name, gaps: gapsOf(report, name, kind) }))
      .filter(({ gaps }) => gaps.length > 0)
      .map(({ name, gaps }, at) => rowOf(name, gaps, TOP + at * ROW + ROW / 2));
    const height = TOP + rows.length * ROW + 8;
    const marks = [wanted.p50Ms, wanted.p99Ms].flatMap((ms) =>
      ms === null ? [] : [`<line x1="${x(ms)}" x2="${x(ms)}" y1="${TOP}" y2="${height}" stroke="#c92a2a" stroke-dasharray="3 3"/>`],
    );
    return `<h2>${what}</h2><svg viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" role="img">${scale(height)}${marks.join("")}${rows.join("")}</svg>`;
  });
  const about = report.systems.map(({ name, version, settings }) => `<li>${escaped(`${name} ${version}: ${settings}`)}</li>`).join("");
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Time without service</title>
<style>body{font:14px system-ui,sans-serif;max-width:${WIDTH}px;margin:2em auto;color:#222}text{font:11px system-ui,sans-serif}h2{font-size:15px;margin:1.4em 0 .2em}</style>
<h1>Time without service</h1><p>Every dot is one partition that the struck node led: milliseconds from its last acknowledgement before the fault to the first one after it. Dashed: what is wanted of Flotilla (p50, p99).</p>
${charts.join("\n")}
<ul>${about}</ul></html>
`;
}

function rowOf(name: string, gaps: readonly number[], y: number): string {
  const { count, p50, p99, max } = distributionOf(gaps)!;
  const colour = COLOURS[name] ?? "#555";
  // Dots that would hide each other lie at different heights, the same each time.
  const dots = gaps.map(
    (ms, at) => `<circle cx="${x(ms)}" cy="${(y + ((at * 7) % 15) - 7).toFixed(1)}" r="2.5" fill="${colour}" fill-opacity=".45"/>`,
  );
  const title = `${count} gaps, p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, max ${max.toFixed(0)} ms`;
  return `<g><title>${title}</title><text x="0" y="${y - 2}">${escaped(name)}</text><text x="0" y="${y + 10}" fill="#777">${p50.toFixed(0)} / ${p99.toFixed(0)} / ${max.toFixed(0)} ms</text>${dots.join("")}<line x1="${x(p50)}" x2="${x(p50)}" y1="${y - 10}" y2="${y + 10}" stroke="#000"/></g>`;
}

function scale(height: number): string {
  return DECADES.map(
    (ms) =>
      `<line x1="${x(ms)}" x2="${x(ms)}" y1="${TOP - 6}" y2="${height}" stroke="#ddd"/><text x="${x(ms)}" y="12" text-anchor="middle" fill="#777">${ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`}</text>`,
  ).join("");
}

function x(ms: number): string {
  const first = DECADES[0];
  const decades = Math.log10(DECADES[DECADES.length - 1]! / first);
  const part = Math.min(1, Math.max(0, Math.log10(Math.max(ms, first) / first) / decades));
  return (LEFT + part * (WIDTH - LEFT - 30)).toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
