// What `flotilla chaos` needs of packages must be there when only the product is installed.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Packages that a file and all that it imports name, but for what is imported only when it is used. */
function packagesOf(entry: string): Set<string> {
  const packages = new Set<string>();
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, isType, name] of readFileSync(file, "utf8").matchAll(/^(?:import|export)( type)?[^;]*?from "([^"]+)";$/gms)) {
      if (isType !== undefined) continue;
      if (name!.startsWith(".")) visit(resolve(dirname(file), name!));
      else if (!name!.startsWith("node:")) packages.add(name!);
    }
  };
  visit(entry);
  return packages;
}

test.each(["bench/chaos/main.ts", "bench/chaos/failover.ts", "bench/attack.ts", "src/cli/main.ts"])(
  "%s: nothing is imported at its start that an installation does not have",
  (entry) => {
    const file = join(root, entry);
    expect(existsSync(file)).toBe(true);
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string> };
    const packages = [...packagesOf(file)];
    expect(packages.filter((name) => dependencies[name] === undefined)).toEqual([]);
  },
);
