// A run written down: its options and its faults, as text that a person can read and change, and that stays what it is when the
// swarm draws other things from a seed.
//
//   # What it is about.
//   planted no-dedup                       a bug that has to be planted for the run to fail
//   expects L2                             the invariant that it violates (with the planted bug, or before the product was mended)
//   option nodes 3
//   fault 1234.567 partition node=1 peer=2 how="ring" ms=300 amount=0 roll=12345
//
// The time of a fault is in virtual milliseconds since the first storm began.

import type { Action, Struck } from "./actions.ts";
import { FAULTS, optionsOf, type Fault, type SimOptions } from "./options.ts";

export type Script = {
  readonly about: readonly string[];
  /** "" = none. */
  readonly planted: string;
  readonly expects: string;
  readonly options: SimOptions;
  readonly schedule: readonly Struck[];
};

const KNOWN_FAULTS: ReadonlySet<string> = new Set([...FAULTS, "ruin"]);
const NO_ACTION: Omit<Action, "fault"> = { node: 1, peer: 1, how: "", ms: 0, amount: 0, roll: 0 };

export function printScript({ about, planted, expects, options, schedule }: Script): string {
  const lines = about.map((line) => `# ${line}`);
  if (planted !== "") lines.push(`planted ${planted}`);
  lines.push(`expects ${expects}`);
  for (const [name, value] of Object.entries(options))
    lines.push(`option ${name} ${value instanceof Set ? [...value].join(",") || "none" : String(value)}`);
  for (const { atUs, action } of schedule) lines.push(`fault ${(atUs / 1_000).toFixed(3)} ${printAction(action)}`);
  return `${lines.join("\n")}\n`;
}

/** Throws what is wrong, with its line. */
export function parseScript(text: string): Script {
  const about: string[] = [];
  const given: Record<string, unknown> = { ...optionsOf({ seed: 1, transactions: 0 }) };
  const schedule: Struck[] = [];
  let [planted, expects] = ["", ""];
  for (const [at, line] of text.split("\n").entries()) {
    const [word, ...rest] = line.split(" ");
    const value = rest.join(" ");
    if (line === "") continue;
    if (word === "#") about.push(value);
    else if (word === "planted") planted = value;
    else if (word === "expects") expects = value;
    else if (word === "option" && rest[0]! in given) given[rest[0]!] = parseOption(given[rest[0]!], rest.slice(1).join(" "));
    else if (word === "fault" && KNOWN_FAULTS.has(rest[1]!))
      schedule.push({ atUs: Math.round(Number(rest[0]) * 1_000), action: parseAction(value) });
    else throw new Error(`line ${at + 1} of a script says nothing that is known: ${line}`);
  }
  return { about, planted, expects, options: given as SimOptions, schedule };
}

function printAction({ fault, ...given }: Action): string {
  const words = Object.entries(given)
    .filter(([name, value]) => value !== NO_ACTION[name as keyof typeof NO_ACTION])
    .map(([name, value]) => `${name}=${typeof value === "string" ? JSON.stringify(value) : value}`);
  return [fault, ...words].join(" ");
}

/** Behind the time: the name of the fault, and what of it is not zero. */
function parseAction(text: string): Action {
  const fault = text.split(" ")[1] as Fault;
  const given = Object.fromEntries(
    [...text.matchAll(/(\w+)=("(?:[^"\\]|\\.)*"|\S+)/g)].map(([, name, value]) => [name!, JSON.parse(value!) as unknown]),
  );
  return { fault, ...NO_ACTION, ...given };
}

/** As what it takes the place of. */
function parseOption(known: unknown, text: string): unknown {
  if (known instanceof Set) return new Set(text === "none" ? [] : text.split(","));
  if (typeof known === "boolean") return text === "true";
  const value = Number(text);
  if (!Number.isFinite(value)) throw new Error(`${text} is no number`);
  return value;
}
