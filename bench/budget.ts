// Where the time of a published batch goes: the same load as the throughput figures, with V8's profiler on in every
// process. The threads beside the main one do the file writes and most of the garbage collection.

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { timeByPart, type CpuProfile } from "./cpu-profile.ts";
import { FlotillaSystem } from "./flotilla.ts";
import { sizeName } from "./measure.ts";
import { table } from "./table.ts";

const BATCH_BYTES = 128 * 1024;
const TICKS_PER_SECOND = 100;

type Role = "client" | "leader" | "follower";
/** Microseconds by part, of one process. */
type Times = ReadonlyMap<string, number>;
type Share = { readonly part: string; readonly usPerMb: number; readonly usPerBatch: number };
export type Budget = { readonly bytes: number; readonly mbPerSecond: number; readonly roles: Readonly<Record<Role, readonly Share[]>> };

export async function measureBudget(
  directory: string,
  plan: { sizes: readonly number[]; seconds: number; progress: (text: string) => void },
): Promise<Budget[]> {
  const budgets: Budget[] = [];
  for (const bytes of plan.sizes) {
    plan.progress(`budget: ${sizeName(bytes)}`);
    budgets.push(await budgetOf(join(directory, `budget-${bytes}`), bytes, plan.seconds));
  }
  return budgets;
}

async function budgetOf(directory: string, bytes: number, seconds: number): Promise<Budget> {
  const profiles = join(directory, "profiles");
  mkdirSync(profiles, { recursive: true });
  const system = await FlotillaSystem.start(directory, { execArgv: ["--cpu-prof", `--cpu-prof-dir=${profiles}`] });
  const session = new Session();
  session.connect();
  let payload = 0;
  const target = await system.createTarget(1);
  await system.publish({ target, bytes, seconds: Math.min(2, seconds / 2), acked: () => {} });
  const leader = await system.leaderOf(target);
  await session.post("Profiler.enable");
  await session.post("Profiler.start");
  const before = system.pids.map(threadsCpuUs);
  const fromUs = nowUs();
  await system.publish({ target, bytes, seconds, acked: (count) => (payload += count * bytes) });
  const toUs = nowUs();
  const beside = system.pids.map((pid, at) => threadsCpuUs(pid) - before[at]!);
  const { profile } = await session.post("Profiler.stop");
  session.disconnect();
  const { pids } = system;
  await system.stop();
  const times = pids.map((pid, at) => {
    const own = timeByPart(profileOf(profiles, pid), fromUs, toUs);
    return own.set("other threads: file writes, garbage collection", beside[at]!);
  });
  const followers = times.filter((_, at) => at + 1 !== leader);
  const shares = (list: readonly Times[]): Share[] => sharesOf(list, payload);
  return {
    bytes,
    mbPerSecond: payload / (toUs - fromUs),
    roles: {
      client: shares([timeByPart(profile as CpuProfile, fromUs, toUs)]),
      leader: shares([times[leader - 1]!]),
      follower: shares(followers),
    },
  };
}

/** The average of the processes' times, per payload. */
function sharesOf(list: readonly Times[], payload: number): Share[] {
  const sum = new Map<string, number>();
  for (const times of list) for (const [part, us] of times) sum.set(part, (sum.get(part) ?? 0) + us / list.length);
  const share = (part: string, us: number): Share => ({
    part,
    usPerMb: us / (payload / 1e6),
    usPerBatch: us / (payload / BATCH_BYTES),
  });
  const parts = [...sum].map(([part, us]) => share(part, us)).sort((a, b) => b.usPerMb - a.usPerMb);
  return [
    ...parts,
    share(
      "in all",
      [...sum.values()].reduce((total, us) => total + us, 0),
    ),
  ];
}

export function renderBudget(budgets: readonly Budget[]): string {
  return budgets
    .map(({ bytes, mbPerSecond, roles }) => {
      const head = ["process", "part", "us per MB", "us per batch of 128 KiB"];
      const rows = (["client", "leader", "follower"] as const).flatMap((role) =>
        roles[role]
          .filter(({ part, usPerMb }) => usPerMb >= 10 || part === "in all")
          .map(({ part, usPerMb, usPerBatch }) => [role, part, usPerMb.toFixed(0), usPerBatch.toFixed(0)]),
      );
      return `publish ${sizeName(bytes)}, 1 partition, profiled: ${mbPerSecond.toFixed(0)} MB/s\n${table([head, ...rows])}\n`;
    })
    .join("\n");
}

function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** CPU of all threads of a process but its main one, in microseconds. */
function threadsCpuUs(pid: number): number {
  let ticks = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    if (Number(thread) === pid) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // The thread is gone meanwhile.
    }
  }
  return (ticks * 1e6) / TICKS_PER_SECOND;
}

/** The profile that the process wrote when it ended. */
function profileOf(directory: string, pid: number): CpuProfile {
  const name = readdirSync(directory).find((file) => file.split(".")[3] === String(pid));
  if (name === undefined) throw new Error(`process ${pid} left no profile`);
  return JSON.parse(readFileSync(join(directory, name), "utf8")) as CpuProfile;
}
