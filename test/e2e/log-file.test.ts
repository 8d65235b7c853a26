import { expect, test } from "vitest";
import { startCluster } from "../support/cluster.ts";
import { flotilla } from "../support/run.ts";

const LINES = 1_000_000;
const PARTITIONS = 10;

/** An access log: many clients, each with its own story in order. */
function accessLog(): string[] {
  let state = 1;
  return Array.from({ length: LINES }, (_, number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return `10.1.${state % 7}.${(state >>> 8) % 250} - - [24/Nov/2026:10:00:00 +0000] "GET /item/${state % 9_973} HTTP/1.1" 200 ${state % 5_000} ${number}`;
  });
}

const keyOf = (line: string): string => line.slice(0, line.indexOf(" "));

test("log file: a million lines through one node and back through the others, whole, each key in order", { timeout: 180_000 }, async () => {
  await using cluster = await startCluster({ nodes: 3 });
  const [first, second, third] = cluster.endpoints as [string, string, string];
  const created = await flotilla(first, ["topic", "create", "access", "--partitions", String(PARTITIONS), "--replicas", "3"]);
  expect(created.code, created.stderr).toBe(0);
  const lines = accessLog();
  const published = await flotilla(second, ["publish", "access", "--key-regex", "^(\\S+)"], `${lines.join("\n")}\n`);
  expect(published.code, published.stderr).toBe(0);
  expect(published.stderr).toContain("1,000,000 records");
  const expected = new Map<string, string[]>();
  for (const line of lines) {
    const story = expected.get(keyOf(line));
    if (story === undefined) expected.set(keyOf(line), [line]);
    else story.push(line);
  }
  // Partition by partition through one node: every key is in one of them, whole and in order.
  let total = 0;
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const consumed = await flotilla(third, ["consume", "access", "--from", "earliest", "--partition", String(partition)]);
    expect(consumed.code, consumed.stderr).toBe(0);
    const found = new Map<string, string[]>();
    const got = consumed.stdout.toString().split("\n").slice(0, -1);
    for (const line of got) {
      const story = found.get(keyOf(line));
      if (story === undefined) found.set(keyOf(line), [line]);
      else story.push(line);
    }
    for (const [key, story] of found)
      expect(story.join("\n") === expected.get(key)!.join("\n"), `${key} in partition ${partition}`).toBe(true);
    total += got.length;
  }
  expect(total).toBe(LINES);
  // And all of it at once through another.
  const all = await flotilla(first, ["consume", "access", "--from", "earliest", "--quiet"]);
  expect(all.stdout.toString().split("\n").slice(0, -1).sort().join("\n") === [...lines].sort().join("\n")).toBe(true);
});
