import { describe, expect, test } from "vitest";
import { normalEntry } from "./describe.ts";
import { directivesOf, filesIn, vectors, type Directive } from "./datadriven.ts";
import { Environment } from "./environment.ts";

type Shown = { readonly hardStates: Map<number, string>; readonly committed: Map<number, string[]> };

/** What a stretch of the trace says of each node: its last hard state, and the entries that it committed, in order. */
function shownIn(expected: readonly string[]): Shown {
  const shown: Shown = { hardStates: new Map(), committed: new Map() };
  let node = 0;
  let inCommitted = false;
  for (const line of expected) {
    const heading = /^> (\d+) handling Ready/.exec(line);
    if (heading !== null) node = Number(heading[1]);
    if (line.startsWith(">")) inCommitted = false;
    const hardState = /^\s+HardState (Term:\d+)(?: Vote:(\d+))? (Commit:\d+)/.exec(line);
    if (hardState !== null) shown.hardStates.set(node, `${hardState[1]} Vote:${hardState[2] ?? 0} ${hardState[3]}`);
    if (/^\s+[A-Z][A-Za-z]+:/.test(line)) inCommitted = line.trim() === "CommittedEntries:";
    else if (inCommitted && /^\s+\d+\/\d+ /.test(line))
      shown.committed.set(node, [...(shown.committed.get(node) ?? []), normalEntry(line)]);
    else if (!/^\s+\d+\/\d+ /.test(line)) inCommitted = false;
  }
  return shown;
}

/** Commands after which the group rests, so that hard states can be compared. */
function comesToRest({ command, words }: Directive): boolean {
  return command === "stabilize" && words.length === 0;
}

describe.skipIf(vectors === undefined)("vectors: interaction, by outcome", () => {
  test.each(filesIn("interaction"))("%s", (file) => {
    const environment = new Environment();
    let compared = 0;
    for (const directive of directivesOf("interaction", file)) {
      const where = `${file} line ${directive.line}: ${directive.command} ${directive.words.join(" ")}`;
      const output = environment.run(directive);
      // With the log level at "none" the files show "ok" whatever there is to show.
      if (output !== null && directive.expected[0] !== "ok") {
        expect(output.map(normalEntry), where).toEqual(directive.expected.map(normalEntry));
        compared += 1;
        continue;
      }
      const { hardStates, committed } = shownIn(directive.expected);
      for (const [id, lines] of committed) {
        const { applied } = environment.members.get(id)!;
        for (const line of lines) expect(applied, `${where}: node ${id} committed`).toContain(line);
        compared += 1;
      }
      if (!comesToRest(directive)) continue;
      for (const [id, hardState] of hardStates) {
        const { raft } = environment.members.get(id)!;
        expect(`Term:${raft.term} Vote:${raft.vote} Commit:${raft.commitIndex}`, `${where}: node ${id}`).toBe(hardState);
        compared += 1;
      }
    }
    expect(compared).toBeGreaterThan(0);
  });
});
