// A report as one page that needs nothing else: no script from elsewhere, no font, no picture.

import type { ChaosReport, KindSummary } from "./report.ts";
import { summaryLine } from "./report.ts";
import { barChart, clock, escaped, LEFT, laneOf, lineChart, RIGHT, TimeScale, WIDTH, type Bar } from "./svg.ts";
import { STYLE } from "./page-style.ts";
import type { Second } from "./timeline.ts";
import { INVARIANTS, isOfQueues } from "./verdict.ts";

/** Points of a line; more cannot be told apart. */
const POINTS_MAX = 1_100;
const FAULT_ROWS_MAX = 5_000;

export function page(report: ChaosReport): string {
  const isGood = report.violations === 0;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Flotilla chaos, seed ${report.seed}: ${isGood ? "nothing violated" : `${report.violations} violations`}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<p class="verdict ${isGood ? "good" : "bad"}">${isGood ? "Nothing violated" : `${report.violations} violations`}</p>
<h1>Flotilla under chaos</h1>
<p class="summary">${escaped(summaryLine(report))}</p>
<p class="meta">${escaped(report.started)} · ${report.nodes} nodes${report.cluster === "own" ? "" : ", a cluster of its owner's"}, ${report.partitions} partitions with ${report.replicas} replicas, ${report.rate} records/s offered · ${escaped(report.machine)}</p>
</header>
${findings(report)}
${tiles(report)}
<section>${charts(report)}</section>
${kindTable(report)}
${skippedList(report)}
${faultTable(report)}
<footer><p>The same faults again: <code>${escaped(report.command)}</code></p>
<p>Judged: ${Object.entries(INVARIANTS)
    .filter(([name]) => report.queues !== undefined || !isOfQueues(name))
    .map(([name, text]) => `<b>${name}</b> ${escaped(text)}`)
    .join("; ")}.</p></footer>
<div id="readout" hidden></div>
<script>${script(report)}</script>
</body>
</html>
`;
}

function findings({ findings: found }: ChaosReport): string {
  if (found.length === 0) return "";
  const parts = found.map(
    ({ invariant, count, texts }) =>
      `<h3>${invariant}, ${count} times: ${escaped(INVARIANTS[invariant])} &mdash; violated</h3><ul>${texts.map((text) => `<li><pre>${escaped(text)}</pre></li>`).join("")}</ul>`,
  );
  return `<section class="findings">${parts.join("")}</section>`;
}

function tiles(report: ChaosReport): string {
  const calm = [...report.timeline].flatMap(({ p99 }) => (p99 === null ? [] : [p99])).sort((a, b) => a - b);
  const tile = (value: string, name: string): string => `<div class="tile"><b>${escaped(value)}</b><span>${escaped(name)}</span></div>`;
  const bit = report.faults.filter((fault) => fault.bit).length;
  return `<section class="tiles">${[
    tile(report.acked.toLocaleString("en"), "records acknowledged"),
    tile((report.readByJudge + report.readLive).toLocaleString("en"), "records read back and checked"),
    tile(`${bit}`, `faults that bit, of ${report.faults.length}`),
    tile(`${report.kinds.length}`, "kinds of faults"),
    tile(`${(report.longestGapMs / 1_000).toFixed(2)} s`, "longest time of a partition without service"),
    tile(calm.length === 0 ? "-" : `${calm[calm.length >> 1]!.toFixed(1)} ms`, "p99 latency of the median second"),
    tile(report.commits.toLocaleString("en"), "offsets committed"),
    ...(report.queues === undefined
      ? []
      : [
          tile(report.queues.queued.toLocaleString("en"), `messages in ${report.queues.count} queues`),
          tile(report.queues.delivered.toLocaleString("en"), "deliveries of them"),
        ]),
    ...(report.peakRssBytes > 0 ? [tile(`${(report.peakRssBytes / 2 ** 20).toFixed(0)} MiB`, "peak memory of a node")] : []),
  ].join("")}</section>`;
}

function charts(report: ChaosReport): string {
  const scale = new TimeScale(report.seconds);
  const seconds = condensed(report.timeline);
  // Between rounds, while everything is judged, nothing is offered: no line rather than one at zero.
  const points = (pick: (second: Second) => number | null): [number, number | null][] =>
    seconds.map((second) => [second.at, second.offered + second.acked === 0 ? null : pick(second)]);
  return [
    lineChart(scale, {
      title: "Throughput",
      height: 190,
      unit: "records/s",
      isLogarithmic: false,
      series: [
        { name: "acknowledged", className: "c-acked", isArea: true, points: points(({ acked }) => acked) },
        { name: "offered", className: "c-offered", points: points(({ offered }) => offered) },
      ],
    }),
    lineChart(scale, {
      title: "Latency",
      height: 190,
      unit: "ms, from when a record was due",
      isLogarithmic: true,
      series: [
        { name: "p99", className: "c-p99", points: points(({ p99 }) => p99) },
        { name: "p50", className: "c-p50", points: points(({ p50 }) => p50) },
      ],
    }),
    faultChart(report, scale),
    gapChart(report, scale),
  ].join("");
}

/** At most so many, each over a few seconds: rates as means, latencies as their worst. */
function condensed(timeline: readonly Second[]): Second[] {
  const each = Math.max(1, Math.ceil(timeline.length / POINTS_MAX));
  const worst = (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : Math.max(...known);
  };
  return Array.from({ length: Math.ceil(timeline.length / each) }, (_, at) => {
    const part = timeline.slice(at * each, (at + 1) * each);
    const mean = (pick: (second: Second) => number): number => part.reduce((sum, second) => sum + pick(second), 0) / part.length;
    return {
      at: part[0]!.at,
      offered: Math.round(mean(({ offered }) => offered)),
      acked: Math.round(mean(({ acked }) => acked)),
      p50: worst(part.map(({ p50 }) => p50)),
      p99: worst(part.map(({ p99 }) => p99)),
      max: worst(part.map(({ max }) => max)),
    };
  });
}

function faultChart({ faults, kinds }: ChaosReport, scale: TimeScale): string {
  const familyOf = (kind: string): string => kinds.find((one) => one.kind === kind)?.family ?? "commands";
  const ends: number[] = [];
  const bars = [...faults]
    .sort((a, b) => a.beganMs - b.beganMs)
    .flatMap(({ kind, detail, proof, bit, beganMs, endedMs, wholeMs, longestGapMs }): Bar[] => {
      const [from, to] = [beganMs / 1_000, endedMs / 1_000];
      const whole = wholeMs < 0 ? scale.seconds : Math.max(to, wholeMs / 1_000);
      const lane = laneOf(ends, from, Math.max(whole, from + scale.seconds / 300));
      const tip = `${kind} at ${clock(from)}: ${detail}\n${bit ? "" : "DID NOT BITE: "}${proof}\nlongest time of a partition without service ${longestGapMs} ms; ${wholeMs < 0 ? "never whole again" : `whole again ${(whole - to).toFixed(1)} s after its end`}`;
      const className = `f-${familyOf(kind)}${bit ? "" : " missed"}`;
      return [
        { fromSecond: to, toSecond: whole, lane, className: `${className} healing`, label: "", tip },
        { fromSecond: from, toSecond: to, lane, className, label: kind, tip },
      ];
    });
  const families = [...new Set(kinds.map(({ family }) => family))];
  const legend = families.map((family) => `<span class="key f-${family}">${family}</span>`).join("");
  const lanes = Array.from({ length: Math.max(1, ends.length) }, () => "");
  return barChart(scale, { title: "Faults", unit: "pale: until everything was whole again", legend, lanes, laneHeight: 22, bars });
}

function gapChart({ gaps, partitions, downMs, gapsLeftOut }: ChaosReport, scale: TimeScale): string {
  const down = (seconds: number): string => seconds.toFixed(seconds < 100 ? 1 : 0);
  const lanes = Array.from({ length: partitions }, (_, partition) => `p${partition} ${down((downMs[partition] ?? 0) / 1_000)} s`);
  const bars = gaps.map(({ partition, fromMs, toMs }): Bar => ({
    fromSecond: fromMs / 1_000,
    toSecond: toMs / 1_000,
    lane: partition,
    className: "c-gap",
    label: "",
    tip: `partition ${partition}: ${(toMs - fromMs).toFixed(0)} ms without an acknowledgement from ${clock(fromMs / 1_000)} on`,
  }));
  const unit = `each partition: times of 250 ms and more without an acknowledgement${gapsLeftOut > 0 ? `; ${gapsLeftOut} more are not shown` : ""}`;
  return barChart(scale, { title: "Without service", unit, legend: "", lanes, laneHeight: 18, bars });
}

function kindTable({ kinds }: ChaosReport): string {
  if (kinds.length === 0) return "";
  const seconds = (ms: number): string => (ms < 0 ? "never" : (ms / 1_000).toFixed(1));
  const row = ({ kind, family, what, count, bit, gapMedianMs, gapMaxMs, wholeMaxMs, healedMaxMs }: KindSummary): string =>
    `<tr><td><span class="key f-${family}">${escaped(kind)}</span></td><td>${escaped(what)}</td><td class="n">${count}</td><td class="n">${bit}</td><td class="n">${gapMedianMs}</td><td class="n">${gapMaxMs}</td><td class="n">${seconds(wholeMaxMs)}</td><td class="n">${seconds(healedMaxMs)}</td></tr>`;
  return `<section><h2>Kinds of faults</h2><div class="scroll"><table><thead><tr><th>kind</th><th>what it does</th><th class="n">times</th><th class="n">bit</th><th class="n">without service, median ms</th><th class="n">longest ms</th><th class="n">whole again, s after its end</th><th class="n">s after its beginning</th></tr></thead><tbody>${kinds.map(row).join("")}</tbody></table></div></section>`;
}

function skippedList({ skipped }: ChaosReport): string {
  if (skipped.length === 0) return "";
  return `<section class="skipped"><h2>Skipped</h2><ul>${skipped.map(({ kind, why }) => `<li><b>${escaped(kind)}</b>: ${escaped(why)}</li>`).join("")}</ul></section>`;
}

function faultTable({ faults }: ChaosReport): string {
  if (faults.length === 0) return "";
  const rows = faults
    .slice(0, FAULT_ROWS_MAX)
    .map(
      ({ kind, detail, bit, proof, beganMs, endedMs, longestGapMs, partitionsDown }) =>
        `<tr${bit ? "" : ' class="missed"'}><td class="n">${clock(beganMs / 1_000)}</td><td>${escaped(kind)}</td><td>${escaped(detail)}</td><td>${bit ? "" : "did not bite: "}${escaped(proof)}</td><td class="n">${((endedMs - beganMs) / 1_000).toFixed(1)}</td><td class="n">${longestGapMs}</td><td class="n">${partitionsDown}</td></tr>`,
    );
  const more = faults.length > FAULT_ROWS_MAX ? `<p>The first ${FAULT_ROWS_MAX} of ${faults.length}.</p>` : "";
  return `<section><details><summary>Every fault, with the proof that it bit</summary>${more}<div class="scroll"><table><thead><tr><th class="n">at</th><th>kind</th><th>whom, how</th><th>proof</th><th class="n">s</th><th class="n">longest without service, ms</th><th class="n">partitions</th></tr></thead><tbody>${rows.join("")}</tbody></table></div></details></section>`;
}

/** A line through all charts under the pointer, and what was then. */
function script({ timeline, seconds }: ChaosReport): string {
  const rows = condensed(timeline).map(({ at, offered, acked, p50, p99 }) => [
    at,
    offered,
    acked,
    p50 === null ? null : Math.round(p50 * 10) / 10,
    p99 === null ? null : Math.round(p99 * 10) / 10,
  ]);
  return `const rows=${JSON.stringify(rows)},total=${Math.max(1, seconds)},readout=document.getElementById("readout"),charts=[...document.querySelectorAll("svg.chart")];
const clock=(s)=>Math.floor(s/60)+":"+String(Math.floor(s%60)).padStart(2,"0");
for(const chart of charts){chart.addEventListener("pointermove",(event)=>{const box=chart.getBoundingClientRect(),x=(event.clientX-box.left)*${WIDTH}/box.width;
if(x<${LEFT}||x>${WIDTH - RIGHT})return hide();const second=(x-${LEFT})/${WIDTH - LEFT - RIGHT}*total;let row=rows[0];for(const one of rows)if(one[0]<=second)row=one;if(!row)return;
for(const other of charts){const line=other.querySelector(".cursor");line.setAttribute("x1",x);line.setAttribute("x2",x);line.style.opacity=1}
const ms=(value)=>value===null?"-":value+" ms";readout.textContent=clock(second)+"  "+row[2]+" of "+row[1]+" records/s, p50 "+ms(row[3])+", p99 "+ms(row[4]);readout.hidden=false;
readout.style.left=Math.min(innerWidth-readout.offsetWidth-12,event.clientX+14)+"px";readout.style.top=(event.clientY+16)+"px"});chart.addEventListener("pointerleave",hide)}
function hide(){readout.hidden=true;for(const chart of charts)chart.querySelector(".cursor").style.opacity=0}
document.documentElement.dataset.charts=charts.length;`;
}
