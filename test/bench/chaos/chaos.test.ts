// The whole harness, tiny: that its faults bite, that it judges, and that it finds what is wrong.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Flotilla } from "../../../src/client/index.ts";
import { runChaos, type ChaosOptions } from "../../../bench/chaos/chaos.ts";
import { BIT_FAULTS } from "../../../bench/chaos/faults/bits.ts";
import { FAULTS } from "../../../bench/chaos/faults/all.ts";
import type { ChaosReport } from "../../../bench/chaos/report.ts";
import { runProgram } from "../../support/run.ts";

const FLOTILLA = fileURLToPath(new URL("../../../dist/src/cli/main.js", import.meta.url));

async function inFolder(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-chaos-test-"));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("chaos: a short run strikes, judges, and writes its report in both forms", { timeout: 120_000 }, () =>
  inFolder(async (directory) => {
    const [json, html] = [join(directory, "report.json"), join(directory, "report.html")];
    const { code, stdout, stderr } = await runProgram(process.execPath, [
      FLOTILLA,
      "chaos",
      ...["--minutes", "0.3", "--queues", "1", "--scale", "0.2", "--seed", "3", "--faults", "kill,isolate,power,corrupt"],
      ...["--json", json, "--html", html, "--directory", directory],
    ]);
    expect(code, `${stdout.toString()}\n${stderr}`).toBe(0);
    expect(stdout.toString()).toMatch(/^chaos: seed 3, .* 0 violations$/m);
    const report = JSON.parse(await readFile(json, "utf8")) as ChaosReport;
    expect(report).toMatchObject({ seed: 3, nodes: 3, violations: 0, findings: [] });
    expect(report.command).toContain("--seed 3");
    expect(report.acked).toBeGreaterThan(500);
    expect(report.sent).toBe(report.acked);
    // Every replica of everything, and what the readers saw meanwhile.
    expect(report.readByJudge).toBeGreaterThanOrEqual(3 * report.acked);
    expect(report.readLive).toBeGreaterThan(report.acked);
    expect(report.commits).toBeGreaterThan(0);
    const skipped = report.skipped.map(({ kind }) => kind);
    for (const kind of ["kill", "isolate", "power", "corrupt"]) {
      if (skipped.includes(kind)) expect(stderr).toContain(`SKIPPED ${kind}`);
      else
        expect(
          report.faults.map((fault) => fault.kind),
          kind,
        ).toContain(kind);
    }
    for (const { kind, bit, proof } of report.faults) if (kind !== "corrupt") expect(bit, `${kind}: ${proof}`).toBe(true);
    expect(report.timeline.reduce((sum, { acked }) => sum + acked, 0)).toBe(report.acked);
    const page = await readFile(html, "utf8");
    expect(page).toContain("Nothing violated");
    expect(page.match(/<svg/g)).toHaveLength(4);
    expect(page).not.toMatch(/https?:|src=|@import|url\(/);
    // Nothing is left but what was asked for.
    expect((await readdir(directory)).sort()).toEqual(["report.html", "report.json"]);
  }),
);

/** Processes whose environment names the folder. */
function processesOf(directory: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "latin1").includes(directory);
    } catch {
      return false;
    }
  });
}

test.skipIf(process.platform !== "linux")("chaos: interrupted in the middle of a fault it leaves nothing behind", { timeout: 60_000 }, () =>
  inFolder(async (directory) => {
    const child = spawn(process.execPath, [
      FLOTILLA,
      "chaos",
      "--minutes",
      "1",
      "--faults",
      "pause,silence,disk-full",
      "--directory",
      directory,
    ]);
    let said = "";
    const strikes = new Promise<void>((resolve) =>
      child.stderr.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes("act 1")) resolve();
      }),
    );
    const ended = once(child, "exit");
    await Promise.race([strikes, ended]);
    expect(processesOf(directory).length, said).toBe(3);
    child.kill("SIGTERM");
    expect((await ended)[0], said).toBe(130);
    // They were killed; the kernel may still be clearing them away.
    await expect.poll(() => processesOf(directory), { timeout: 5_000 }).toEqual([]);
    expect(await readdir(directory)).toEqual([]);
  }),
);

test("chaos: wrong usage is named, and help lists every fault", async () => {
  const wrong = await runProgram(process.execPath, [FLOTILLA, "chaos", "--faults", "earthquake"]);
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining("earthquake")]);
  const help = await runProgram(process.execPath, [FLOTILLA, "chaos", "--help"]);
  expect(help.code).toBe(0);
  for (const { name } of [...FAULTS, ...BIT_FAULTS]) expect(help.stdout.toString()).toContain(`    ${name} `);
});

function options(directory: string, more: Partial<ChaosOptions>): ChaosOptions {
  return {
    seconds: 3,
    seed: 1,
    nodes: 3,
    endpoints: [],
    commands: { begin: [], end: [], secondsMin: 0, secondsMax: 0 },
    kinds: [],
    partitions: 2,
    rate: 200,
    bytesMax: 100,
    scale: 0.2,
    recoverySeconds: 30,
    roundSeconds: 60,
    directory,
    command: "",
    progress: () => {},
    signal: new AbortController().signal,
    ...more,
  };
}

test("chaos: one flipped bit is found by the node itself, and healed in time", { timeout: 180_000 }, () =>
  inFolder(async (directory) => {
    const kinds = BIT_FAULTS.filter(({ name }) => ["bit-catalog-segment", "bit-node-json"].includes(name));
    const report = await runChaos(options(directory, { seconds: 12, kinds, recoverySeconds: 60 }));
    expect(report.findings).toEqual([]);
    expect(report.faults.length).toBeGreaterThan(0);
    for (const { kind, bit, proof } of report.faults) {
      expect(bit, `${kind}: ${proof}`).toBe(true);
      expect(proof).toContain("until it had read everything");
    }
  }),
);

test("chaos: a record that is not there, and one that nobody sent, are found on every replica", { timeout: 120_000 }, () =>
  inFolder(async (directory) => {
    let acked = 0;
    const report = await runChaos(
      options(directory, {
        beforeJudge: async ({ ledger, topic, endpoints }) => {
          ledger.sending(0);
          ledger.acknowledged({ lane: 0, number: ledger.lanes[0]!.acked }, 0, -1);
          await using client = await Flotilla.connect({ endpoints });
          await client.publish(topic, [{ body: "from nobody" }], { partition: 1 });
          ({ acked } = ledger);
        },
      }),
    );
    expect(report.acked).toBe(acked);
    expect(report.findings.map(({ invariant, count }) => [invariant, count])).toEqual([
      ["L0", 3],
      ["L1", 3],
    ]);
  }),
);

test("chaos: a cluster of somebody's is loaded, struck by its owner's commands and judged", { timeout: 120_000 }, () =>
  inFolder(async (directory) => {
    // The commands of an owner who has nothing to hide: one that works, one that does not.
    const { Nodes } = await import("../../../bench/nodes.ts");
    const nodes = await Nodes.start(directory);
    try {
      const pids = nodes.ids.map((node) => nodes.pid(node));
      const begin = [`set -- ${pids.join(" ")}; shift {index}; kill -STOP $1`, "exit 3"];
      const end = [`set -- ${pids.join(" ")}; shift {index}; kill -CONT $1`];
      const report = await runChaos(
        options(directory, { seconds: 6, endpoints: nodes.endpoints, commands: { begin, end, secondsMin: 1, secondsMax: 1 } }),
      );
      expect(report).toMatchObject({ cluster: "foreign", violations: 0 });
      expect(report.acked).toBeGreaterThan(300);
      expect(report.faults.length).toBeGreaterThanOrEqual(2);
      for (const { kind, bit } of report.faults) expect([kind, bit]).toEqual([kind, kind === "command 1"]);
    } finally {
      await nodes.stop();
    }
  }),
);
