// Where the time of an acknowledgement goes: what the nodes' histograms say of writing and committing, and how long each
// event loop was ready to run and had no core to run on, as the kernel counts it.

import { readFileSync } from "node:fs";

/** Of each node, by the sample's name with its labels. */
export type Samples = readonly ReadonlyMap<string, number>[];
type Waited = { readonly seconds: number; readonly atMs: number };

const WRITE = "flotilla_log_write_seconds";
const COMMIT = "flotilla_commit_seconds";

export class LatencyParts {
  private readonly pids: readonly number[];
  private readonly samples: () => Promise<Samples>;
  private readonly before: Samples;
  private readonly waitedBefore: readonly Waited[];

  private constructor(pids: readonly number[], samples: () => Promise<Samples>, before: Samples) {
    this.pids = pids;
    this.samples = samples;
    this.before = before;
    this.waitedBefore = [process.pid, ...pids].map(waitedFor);
  }

  /** Begins to look; `pids` are the nodes'. */
  static async begin(pids: readonly number[], samples: () => Promise<Samples>): Promise<LatencyParts> {
    return new LatencyParts(pids, samples, await samples());
  }

  /** What it came to since: means, the bound below which 99 of 100 lay, and milliseconds without a core in each second. */
  async text(leader: number): Promise<string> {
    const waited = [process.pid, ...this.pids].map((pid, at) => {
      const { seconds, atMs } = waitedFor(pid);
      const { seconds: secondsBefore, atMs: atMsBefore } = this.waitedBefore[at]!;
      return `${(((seconds - secondsBefore) * 1e6) / (atMs - atMsBefore)).toFixed(0)}`;
    });
    const after = await this.samples();
    const of = (node: number, name: string, label: string): string => spent(this.before[node - 1]!, after[node - 1]!, name, label);
    const writes = this.pids.map((_, at) => `node ${at + 1} ${of(at + 1, WRITE, 'log="data"')}`);
    return [
      `at the leader (node ${leader}), from its log's door until applied: ${of(leader, COMMIT, "")}`,
      `write and sync: ${writes.join(", ")}`,
      `ready to run and without a core, ms in each second: client ${waited[0]}, nodes ${waited.slice(1).join(", ")}`,
    ].join("\n  ");
  }
}

function spent(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, name: string, label: string): string {
  const grown = (sample: string): number => (after.get(sample) ?? 0) - (before.get(sample) ?? 0);
  const labels = label === "" ? "" : `{${label}}`;
  const count = grown(`${name}_count${labels}`);
  if (count === 0) return "nothing";
  const prefix = label === "" ? `${name}_bucket{le="` : `${name}_bucket{${label},le="`;
  const bounds = [...after.keys()].filter((key) => key.startsWith(prefix));
  const p99 = bounds.find((key) => grown(key) >= count * 0.99)!;
  const bound = Number(p99.slice(prefix.length, -2)) * 1_000;
  return `mean ${((grown(`${name}_sum${labels}`) / count) * 1_000).toFixed(2)} ms, p99 up to ${bound} ms`;
}

/** How long the main thread was ready to run and did not, since its start. */
function waitedFor(pid: number): Waited {
  const [, waitedNs] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ");
  return { seconds: Number(waitedNs) / 1e9, atMs: performance.now() };
}
