// House rules that no compiler knows: which layer may import which, how long a file may be, what may not be said.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = join(root, "src");

/** What a folder of src may import, beside itself and packages (DESIGN section 2; src/README.md shows the picture). */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  raft: [],
  machine: ["base"],
  log: ["base", "raft"],
  store: ["base", "raft"],
  peer: ["base", "raft"],
  replica: ["machine", "log", "store", "peer", "raft", "base"],
  broker: ["replica", "machine", "log", "store", "peer", "raft", "base"],
  api: ["broker", "base"],
  config: ["base"],
  server: ["api", "config", "broker", "replica", "machine", "log", "store", "peer", "raft", "base"],
  client: ["base"],
  cli: ["client", "server", "config", "base"],
};
const LINES_MAX = 600;
/** Packages that only some folders may use. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "@grpc/grpc-js": ["api", "client"],
  level: ["store"],
  pino: ["server"],
  commander: ["cli"],
  yaml: ["config"],
  zod: ["config"],
};

type Import = { readonly file: string; readonly target: string };

function filesBelow(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name);
    return statSync(path).isDirectory() ? filesBelow(path) : path.endsWith(".ts") ? [path] : [];
  });
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, "utf8");
  return [...text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map((match) => ({ file: relative(root, file), target: match[1]! }));
}

/** The folder of src that an import leads to; null for a package. */
function folderOf(path: string): string {
  return relative(source, path).split("/")[0]!;
}

/** Imports that go up or sideways, by the table above. */
function violations(file: string, imports: readonly Import[], layers: Readonly<Record<string, readonly string[]>>): string[] {
  const from = folderOf(file);
  return imports.flatMap(({ target }) => {
    if (target.startsWith(".")) {
      const to = folderOf(resolve(dirname(file), target));
      return to === from || layers[from]?.includes(to) === true
        ? []
        : [`${relative(root, file)} imports ${to}: ${from} may import ${layers[from]?.join(", ")}`];
    }
    const allowed = PACKAGES[target];
    return allowed === undefined || allowed.includes(from)
      ? []
      : [`${relative(root, file)} imports ${target}: only ${allowed.join(", ")} may`];
  });
}

test("tidy: the checks find what they are for", () => {
  const file = join(source, "raft/core.ts");
  expect(violations(file, [{ file, target: "../log/types.ts" }], LAYERS)).toHaveLength(1);
  expect(violations(file, [{ file, target: "./log.ts" }], LAYERS)).toHaveLength(0);
  expect(violations(join(source, "broker/admin.ts"), [{ file, target: "@grpc/grpc-js" }], LAYERS)).toHaveLength(1);
});

test("tidy: every folder imports only from the layers below it", () => {
  const files = filesBelow(source);
  expect(files.length).toBeGreaterThan(80);
  expect(files.flatMap((file) => violations(file, importsOf(file), LAYERS))).toEqual([]);
});

test("tidy: every folder of src is in the table and says what it is for", () => {
  const folders = readdirSync(source).filter((name) => statSync(join(source, name)).isDirectory());
  expect(folders.sort()).toEqual(Object.keys(LAYERS).sort());
  for (const folder of folders) expect(readFileSync(join(source, folder, "README.md"), "utf8").length, folder).toBeGreaterThan(200);
});

test("tidy: no file is longer than it should be, and none is imported by nobody", () => {
  const files = [...filesBelow(source), ...filesBelow(join(root, "bench")), ...filesBelow(join(root, "test"))];
  expect(files.filter((file) => readFileSync(file, "utf8").split("\n").length > LINES_MAX).map((file) => relative(root, file))).toEqual([]);
  const imported = new Set(
    files.flatMap((file) => importsOf(file).map(({ target }) => (target.startsWith(".") ? resolve(dirname(file), target) : target))),
  );
  const entries = new Set(["src/cli/main.ts", "src/client/index.ts", "bench/main.ts"]);
  const dead = filesBelow(source).filter((file) => !imported.has(file) && !entries.has(relative(root, file)));
  expect(dead.map((file) => relative(root, file))).toEqual([]);
});

test("tidy: the top level holds what was agreed and nothing else", () => {
  const allowed = new Set([
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.base.json",
    "vitest.config.ts",
    "proto",
    "src",
    "test",
    "bench",
    "deploy",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "node_modules",
    "dist",
    "data",
  ]);
  expect(readdirSync(root).filter((name) => !name.startsWith(".") && !allowed.has(name))).toEqual([]);
});

test("tidy: README, the error table and the documented codes say the same", async () => {
  const { ERRORS } = await import("../src/base/errors.ts");
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const documented = [...readme.matchAll(/^\| ([A-Z_]+) \| [A-Z_]+ \| (same|leader|no) \| (.+) \|$/gm)].map(
    ([, code, retry, meaning]) => `${code} ${retry} ${meaning}`,
  );
  expect(documented).toEqual(Object.entries(ERRORS).map(([code, { retry, meaning }]) => `${code} ${retry} ${meaning}`));
});
