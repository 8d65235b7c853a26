// Reads test data in the "datadriven" form: a command line, optional input lines, `----`, the expected output up to a
// blank line. Comments begin with `#`.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

export type Arguments = ReadonlyMap<string, readonly string[]>;
export type Directive = {
  readonly line: number;
  readonly command: string;
  readonly words: readonly string[];
  readonly args: Arguments;
  readonly input: readonly string[];
  readonly expected: readonly string[];
};

/** The folder that RAFT_VECTORS names; undefined when it is unset. */
export const vectors = process.env["RAFT_VECTORS"];
if (vectors === undefined) console.warn("RAFT_VECTORS is unset: the outside test vectors of the Raft core are skipped");

export function filesIn(folder: string): string[] {
  return vectors === undefined
    ? []
    : readdirSync(join(vectors, folder))
        .filter((name) => name.endsWith(".txt"))
        .sort();
}

export function directivesOf(folder: string, file: string): Directive[] {
  const lines = readFileSync(join(vectors!, folder, file), "utf8").split("\n");
  const directives: Directive[] = [];
  let at = 0;
  while (at < lines.length) {
    const text = lines[at]!;
    if (text.trim() === "" || text.startsWith("#")) {
      at += 1;
      continue;
    }
    const line = at + 1;
    const input: string[] = [];
    at += 1;
    while (lines[at] !== "----") input.push(lines[at++]!);
    const expected: string[] = [];
    at += 1;
    while (at < lines.length && lines[at] !== "") expected.push(lines[at++]!);
    directives.push({ line, ...split(text), input, expected });
  }
  return directives;
}

/** `cmd word key=value key=(a,b)`: blanks inside brackets do not count. */
function split(text: string): { command: string; words: string[]; args: Map<string, readonly string[]> } {
  const [command, ...rest] = text.replace(/\(([^)]*)\)/g, (_, inside: string) => `(${inside.replaceAll(" ", "")})`).split(/\s+/);
  const words: string[] = [];
  const args = new Map<string, readonly string[]>();
  for (const word of rest) {
    const equals = word.indexOf("=");
    if (equals < 0) words.push(word);
    else args.set(word.slice(0, equals), listOf(word.slice(equals + 1)));
  }
  return { command: command!, words, args };
}

function listOf(text: string): string[] {
  const inside = text.startsWith("(") ? text.slice(1, -1) : text;
  return inside === "" ? [] : inside.split(",");
}

export function numbers(values: readonly string[] | undefined): number[] {
  return (values ?? []).map(Number);
}
