// Charts as plain SVG: lines over time, bars in lanes. One scale of time for all of them, so that they stand below each other.

export const WIDTH = 1200;
export const LEFT = 64;
export const RIGHT = 16;

/** Escapes text for HTML and SVG, attributes included. */
export function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

export class TimeScale {
  readonly seconds: number;

  constructor(seconds: number) {
    this.seconds = Math.max(1, seconds);
  }

  x(second: number): number {
    const at = LEFT + ((WIDTH - LEFT - RIGHT) * Math.max(0, Math.min(second, this.seconds))) / this.seconds;
    return Math.round(at * 100) / 100;
  }

  /** Round times, some ten of them. */
  ticks(): number[] {
    const step =
      [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400].find((one) => this.seconds / one <= 12) ?? 86_400;
    return Array.from({ length: Math.floor(this.seconds / step) + 1 }, (_, at) => at * step);
  }
}

export type Series = {
  readonly name: string;
  readonly className: string;
  readonly isArea?: boolean;
  readonly points: readonly (readonly [second: number, value: number | null])[];
};

export type LineChart = {
  readonly title: string;
  readonly height: number;
  readonly series: readonly Series[];
  readonly unit: string;
  /** Each gridline ten times the one before; values below 1 count as 1. */
  readonly isLogarithmic: boolean;
};

export function lineChart(scale: TimeScale, { title, height, series, unit, isLogarithmic }: LineChart): string {
  const [top, bottom] = [10, height - 24];
  const highest = Math.max(1, ...series.flatMap(({ points }) => points.map(([, value]) => value ?? 0)));
  const marks = isLogarithmic ? decades(highest) : linear(highest);
  const ceiling = marks.at(-1)!;
  const part = (value: number): number => (isLogarithmic ? Math.log10(Math.max(1, value)) / Math.log10(ceiling) : value / ceiling);
  const y = (value: number): number => Math.round((bottom - (bottom - top) * Math.min(1, part(value))) * 100) / 100;
  const grid = marks.map(
    (mark) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(mark)}" y2="${y(mark)}"/><text class="tick" x="${LEFT - 8}" y="${y(mark) + 4}" text-anchor="end">${shortNumber(mark)}</text>`,
  );
  const lines = series.map(({ className, isArea, points }) =>
    runsOf(points)
      .map((run) => {
        const path = run.map(([second, value], at) => `${at === 0 ? "M" : "L"}${scale.x(second)} ${y(value)}`).join("");
        const area =
          isArea === true
            ? `<path class="area ${className}" d="${path}L${scale.x(run.at(-1)![0])} ${bottom}L${scale.x(run[0]![0])} ${bottom}Z"/>`
            : "";
        return `${area}<path class="line ${className}" d="${path}"/>`;
      })
      .join(""),
  );
  const legend = series.map(({ name, className }) => `<span class="key ${className}">${escaped(name)}</span>`).join("");
  return figure(title, legend, unit, svg(height, [...grid, ...lines, timeAxis(scale, bottom)]));
}

export type Bar = {
  readonly fromSecond: number;
  readonly toSecond: number;
  readonly lane: number;
  readonly className: string;
  readonly label: string;
  readonly tip: string;
};
export type BarChart = {
  readonly title: string;
  readonly legend: string;
  readonly unit: string;
  /** What stands to the left of each lane. */
  readonly lanes: readonly string[];
  readonly laneHeight: number;
  readonly bars: readonly Bar[];
};

export function barChart(scale: TimeScale, { title, legend, unit, lanes, laneHeight, bars }: BarChart): string {
  const top = 6;
  const bottom = top + lanes.length * laneHeight;
  const rows = lanes.map(
    (name, lane) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${top + (lane + 1) * laneHeight}" y2="${top + (lane + 1) * laneHeight}"/><text class="tick" x="${LEFT - 8}" y="${top + (lane + 0.5) * laneHeight + 4}" text-anchor="end">${escaped(name)}</text>`,
  );
  const drawn = bars.map(({ fromSecond, toSecond, lane, className, label, tip }) => {
    const [x, y] = [scale.x(fromSecond), top + lane * laneHeight + 2];
    const width = Math.max(2, scale.x(toSecond) - x);
    // Text only where it fits.
    const name =
      label !== "" && width > label.length * 6.4
        ? `<text class="barname" x="${x + 4}" y="${y + laneHeight / 2 + 2}">${escaped(label)}</text>`
        : "";
    return `<g><title>${escaped(tip)}</title><rect class="bar ${className}" x="${x}" y="${y}" width="${width.toFixed(2)}" height="${laneHeight - 4}" rx="3"/>${name}</g>`;
  });
  return figure(title, legend, unit, svg(bottom + 24, [...rows, ...drawn, timeAxis(scale, bottom)]));
}

/** Lanes in which no two bars overlap, the first that is free for each. */
export function laneOf(ends: number[], fromSecond: number, toSecond: number): number {
  const free = ends.findIndex((end) => end <= fromSecond);
  const lane = free < 0 ? ends.length : free;
  ends[lane] = toSecond;
  return lane;
}

function figure(title: string, legend: string, unit: string, picture: string): string {
  return `<figure><figcaption><b>${escaped(title)}</b> <span class="unit">${escaped(unit)}</span><span class="legend">${legend}</span></figcaption>${picture}</figure>`;
}

function svg(height: number, parts: readonly string[]): string {
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img">${parts.join("")}<line class="cursor" x1="0" x2="0" y1="0" y2="${height - 24}"/></svg>`;
}

function timeAxis(scale: TimeScale, bottom: number): string {
  const ticks = scale
    .ticks()
    .map((second) => `<text class="tick" x="${scale.x(second)}" y="${bottom + 17}" text-anchor="middle">${clock(second)}</text>`);
  return `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${bottom}" y2="${bottom}"/>${ticks.join("")}`;
}

/** m:ss, or h:mm:ss. */
export function clock(second: number): string {
  const [hours, minutes, rest] = [Math.floor(second / 3_600), Math.floor(second / 60) % 60, Math.floor(second % 60)];
  const two = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** What lies between two nulls. */
function runsOf(points: Series["points"]): (readonly [number, number])[][] {
  const runs: (readonly [number, number])[][] = [[]];
  for (const [second, value] of points) {
    if (value === null) runs.push([]);
    else runs.at(-1)!.push([second, value]);
  }
  return runs.filter((run) => run.length > 0);
}

function linear(highest: number): number[] {
  const rough = highest / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough)!;
  return Array.from({ length: Math.ceil(highest / step) + 1 }, (_, at) => at * step);
}

function decades(highest: number): number[] {
  const marks = [1];
  do marks.push(marks.at(-1)! * 10);
  while (marks.at(-1)! < highest);
  return marks;
}

function shortNumber(value: number): string {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 10_000 ? `${value / 1_000}k` : String(Number(value.toPrecision(3)));
}
