// The README's jobs, run as they stand there: what they print must be what it says.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { runProgram } from "../support/run.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readme = await readFile(`${root}/README.md`, "utf8");
const sectionOf = (title: string): string => new RegExp(`^## ${title}\\n([\\s\\S]*?)^## `, "m").exec(readme)![1]!;
const transactions = /^```sh\n([\s\S]*?)^```\n\n^```text\n([\s\S]*?)^```/m.exec(sectionOf("Transactions"))!;
const jobs = [...sectionOf("Six jobs").matchAll(/^\*\*(.+?)\.\*\*[\s\S]*?^```sh\n([\s\S]*?)^```\n\n^```text\n([\s\S]*?)^```/gm)].map(
  ([, name, script, output]) => ({
    name: name!,
    script: script!,
    output: output!,
  }),
);

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
}, 60_000);
afterAll(async () => cluster[Symbol.asyncDispose]());

test("README: there are six jobs", () => {
  expect(jobs.map(({ name }) => name)).toHaveLength(6);
});

test.each([...jobs, { name: "Transactions", script: transactions[1]!, output: transactions[2]! }])(
  "README: $name",
  async ({ script, output }) => {
    const prelude = `set -euo pipefail\nflotilla() { node ${root}/dist/src/cli/main.js "$@"; }\n`;
    const { code, stdout, stderr } = await runProgram("bash", ["-c", prelude + script], {
      env: { FLOTILLA_ENDPOINTS: cluster.endpoints[2]! },
    });
    expect(code, stderr).toBe(0);
    // What declares prints what it made; a job's own output is what comes after.
    const lines = stdout.toString().split("\n");
    const expected = output.split("\n");
    const printed = lines.filter((line) => expected.includes(line));
    expect(printed.join("\n"), stderr).toBe(output);
  },
);
