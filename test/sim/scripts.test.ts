// The runs that are written down in regressions/: each violates nothing, and those for a planted bug find it again.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runScript } from "./run-script.ts";
import { parseScript } from "./script.ts";
import { invariantOf } from "./shrink.ts";

const folder = fileURLToPath(new URL("./regressions/", import.meta.url));

test.each(readdirSync(folder))("%s", { timeout: 120_000 }, async (file) => {
  const script = parseScript(readFileSync(folder + file, "utf8"));
  expect((await runScript(script, "")).failure).toBeNull();
  if (script.planted === "") return;
  const { failure } = await runScript(script, script.planted);
  expect(invariantOf(failure?.message ?? "nothing: it was not found")).toBe(script.expects);
});
