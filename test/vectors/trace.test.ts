import { describe, expect, test } from "vitest";
import { directivesOf, filesIn, vectors, type Directive } from "./datadriven.ts";
import { TraceEnvironment } from "./trace.ts";

/**
 * Files in which messages differ for a reason; everything else in them is compared all the same. Our core asks for a
 * snapshot of where its log begins and the host sends its newest state, so the leader does not know that the receiver
 * has the commit index already, and tells it by one empty append.
 */
const MESSAGES_DIFFER = new Set(["confchange_v1_add_single.txt", "confchange_v2_add_double_auto.txt", "confchange_v2_replace_leader.txt"]);

describe.skipIf(vectors === undefined)("vectors: interaction, the whole trace", () => {
  test.each(filesIn("interaction"))("%s", (file) => {
    const environment = new TraceEnvironment();
    const compared = MESSAGES_DIFFER.has(file) ? withoutMessages : (lines: string[]): string[] => lines;
    for (const directive of directivesOf("interaction", file)) {
      const { line, command } = directive;
      expect(compared(environment.run(directive)), `line ${line}: ${command}`).toEqual(compared(expectedOf(directive)));
    }
  });
});

/** Logging is not compared; of the two encodings of a membership change we have one. */
function expectedOf({ expected }: Directive): string[] {
  if (expected.length === 1 && expected[0] === "ok") return [];
  return expected
    .filter((line) => !/^\s*(INFO|DEBUG|WARN) /.test(line))
    .map((line) => line.replaceAll("EntryConfChangeV2", "EntryConfChange").trimEnd());
}

/** Leaves what happened inside the replicas: states, entries, commits, snapshots. */
function withoutMessages(lines: readonly string[]): string[] {
  const isMessage = (line: string): boolean => /^\s*(\d+->\d+ |Messages:|> |Ready MustSync=false|Snapshot: |raft: cannot step)/.test(line);
  return lines.filter((line) => !isMessage(line));
}
