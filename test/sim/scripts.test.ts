// The runs that are written down in regressions/: each violates nothing, and those for a planted bug find it again.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runScript } from "./run-script.ts";
import { parseScript } from "./script.ts";

const folder = fileURLToPath(new URL("./regressions/", import.meta.url));
/** Any change of the product makes other runs of a script, so a planted bug is looked for with a few seeds. */
const SEEDS = 12;

test.each(readdirSync(folder))("%s", { timeout: 120_000 }, async (file) => {
  const script = parseScript(readFileSync(folder + file, "utf8"));
  expect((await runScript(script, "")).failure).toBeNull();
  if (script.planted === "") return;
  let failure: Error | null = null;
  for (let again = 0; again < SEEDS && failure === null; again++)
    ({ failure } = await runScript({ ...script, options: { ...script.options, seed: script.options.seed + again } }, script.planted));
  expect(failure).not.toBeNull();
});
