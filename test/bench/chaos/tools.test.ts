// What a machine allows is tried, not guessed from the programs that it has.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Need } from "../../../bench/chaos/tools.ts";

const TOOLS = fileURLToPath(new URL("../../../dist/bench/chaos/tools.js", import.meta.url));
const CODE = `import(${JSON.stringify(TOOLS)}).then(({ findTools }) => console.log(JSON.stringify([...findTools().missing])))`;

function missingWith(...wrapper: readonly string[]): Map<Need, string> {
  const [command, ...args] = [...wrapper, process.execPath, "-e", CODE];
  return new Map(JSON.parse(execFileSync(command!, args, { encoding: "utf8" })) as [Need, string][]);
}

const isRoot = process.platform === "linux" && process.getuid?.() === 0;

test.skipIf(!isRoot)("tools: root without the right to mount, to trace and to filter is told so", () => {
  const missing = missingWith("setpriv", "--bounding-set", "-sys_admin,-sys_ptrace,-net_admin", "--");
  const before = missingWith();
  for (const need of ["mount", "shutdown", "nft"] as const)
    if (!before.has(need)) expect(missing.get(need), need).toContain("does not allow");
});
