// `npm run bench -- --figures`: every measurement that has a wanted figure, one after the other, and one table in the end.
// Each part is a run of the bench of its own, so that none inherits the memory, the processes or the end of another.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { FIGURE_HEAD, figureRow, isMet, type Figure, type FigureReport } from "./figures.ts";
import { table } from "./table.ts";

const MAIN = fileURLToPath(new URL("main.js", import.meta.url));
const BUILT_MAIN = fileURLToPath(new URL("../dist/bench/main.js", import.meta.url));
/** A part that takes so many times as long as it should, and these minutes, will not end. */
const LATE_FACTOR = 3;
const LATE_MINUTES = 5;

export type Part = {
  readonly name: string;
  /** What measures it alone: options of the bench. */
  readonly args: readonly string[];
  /** The same in a second or two. */
  readonly tinyArgs: readonly string[];
  /** About. */
  readonly minutes: number;
};

export const PARTS: readonly Part[] = [
  {
    name: "publish",
    args: ["--against", "rabbitmq,nats"],
    tinyArgs: ["--against", "rabbitmq,nats"],
    minutes: 8,
  },
  { name: "groups", args: ["--groups", "10000"], tinyArgs: ["--groups", "30"], minutes: 3 },
  { name: "laggard", args: ["--laggard", "60"], tinyArgs: ["--laggard", "1"], minutes: 3 },
  { name: "pinned", args: ["--pinned", "5"], tinyArgs: ["--pinned", "0.05"], minutes: 1 },
  { name: "restart", args: ["--restart", "2"], tinyArgs: ["--restart", "0.02"], minutes: 1 },
  { name: "queues", args: ["--queues", "--against", "rabbitmq"], tinyArgs: ["--queues"], minutes: 8 },
  { name: "backlog", args: ["--backlog", "10"], tinyArgs: ["--backlog", "0.02"], minutes: 2 },
  { name: "due", args: ["--due", "100000"], tinyArgs: ["--due", "1000"], minutes: 1 },
  { name: "bindings", args: ["--bindings", "100000"], tinyArgs: ["--bindings", "1000"], minutes: 1 },
  { name: "unsettled", args: ["--unsettled", "10"], tinyArgs: ["--unsettled", "0.02"], minutes: 6 },
  { name: "endurance", args: ["--endurance", "10"], tinyArgs: ["--endurance", "0.1"], minutes: 12 },
];

export type PartResult = {
  readonly name: string;
  readonly command: string;
  /** Why it came to no figures. */
  readonly failure: string | null;
  readonly figures: readonly Figure[];
};

export type EveryFigurePlan = {
  readonly directory: string;
  readonly isTiny: boolean;
  readonly progress: (text: string) => void;
};

/** Those named in `list`, in their usual order; all without one. */
export function chosenParts(list: string | undefined): Part[] {
  const names = list?.split(",") ?? PARTS.map(({ name }) => name);
  const unknown = names.find((name) => !PARTS.some((part) => part.name === name));
  if (unknown !== undefined) throw new Error(`--only knows ${PARTS.map(({ name }) => name).join(", ")}, not ${unknown}`);
  return PARTS.filter(({ name }) => names.includes(name));
}

/** One part after the other; what fails is told, and the next one runs. */
export async function measureParts(parts: readonly Part[], { directory, isTiny, progress }: EveryFigurePlan): Promise<PartResult[]> {
  const results: PartResult[] = [];
  for (const [at, part] of parts.entries()) {
    const began = performance.now();
    const minutes = parts.slice(at).reduce((sum, { minutes: about }) => sum + about, 0);
    const say = (text: string): void => {
      const left = Math.max(0, minutes - (performance.now() - began) / 60_000);
      const eta = isTiny ? "" : `, about ${Math.ceil(left)} min left in all`;
      progress(`[${part.name}, ${at + 1} of ${parts.length}${eta}] ${text}`);
    };
    const result = await measurePart(part, { directory, isTiny, progress: say });
    if (result.failure !== null) say(`failed: ${result.failure}`);
    results.push(result);
  }
  return results;
}

async function measurePart(part: Part, { directory, isTiny, progress }: EveryFigurePlan): Promise<PartResult> {
  const command = `npm run bench -- ${part.args.join(" ")}`;
  const failed = (failure: string): PartResult => ({ name: part.name, command, failure, figures: [] });
  const json = join(directory, `${part.name}.json`);
  rmSync(json, { force: true });
  const main = MAIN.includes("/dist/") ? MAIN : BUILT_MAIN;
  const args = [...(isTiny ? [...part.tinyArgs, "--tiny"] : part.args), "--json", json, "--directory", directory];
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  // It ends its own nodes when it is asked to.
  const end = (): void => void child.kill("SIGTERM");
  process.once("exit", end);
  const lateMinutes = LATE_FACTOR * part.minutes + LATE_MINUTES;
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    end();
  }, lateMinutes * 60_000);
  let error = "it said nothing";
  const follow = (stream: Readable): void => {
    createInterface({ input: stream }).on("line", (line) => {
      if (/^\w*Error\b/.test(line)) error = line;
      progress(line);
    });
  };
  follow(child.stderr);
  follow(child.stdout);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  process.off("exit", end);
  if (isLate) return failed(`not done after ${lateMinutes} minutes`);
  let report: FigureReport;
  try {
    report = JSON.parse(readFileSync(json, "utf8")) as FigureReport;
  } catch {
    return failed(`it ended with ${code ?? "a signal"}: ${error}`);
  }
  return { name: part.name, command, failure: null, figures: report.figures };
}

export function renderParts(results: readonly PartResult[]): string {
  const rows = results.flatMap(({ name, command, failure, figures }) =>
    failure === null ? figures.map((figure) => [...figureRow(figure), command]) : [[name, `failed: ${failure}`, "", "NO", command]],
  );
  const judged = results.flatMap(({ figures }) => figures.filter(({ wanted }) => wanted !== null));
  const failed = results.filter(({ failure }) => failure !== null).length;
  const summary = `figures: ${judged.filter(isMet).length} of ${judged.length} met, ${failed} of ${results.length} parts failed`;
  return `${table([[...FIGURE_HEAD, "measured alone by"], ...rows])}\n${summary}\n`;
}

/** A part that failed fails even a tiny run, of which no figure is judged. */
export function isPassed(results: readonly PartResult[], isTiny: boolean): boolean {
  return results.every(({ failure, figures }) => failure === null && (isTiny || figures.every(isMet)));
}
