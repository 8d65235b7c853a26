// What a run costs for real. Wall time says how long one waits; on a machine that is shared, CPU time says how fast the simulator is.

/** `cpuMs`: of all threads of the process, collection of garbage and compilation included. */
export type Spent = { readonly realMs: number; readonly cpuMs: number };

/** Since some time in the past: only differences mean something. Not to be asked while an event runs. */
export function spentSoFar(): Spent {
  const { user, system } = process.cpuUsage();
  return { realMs: performance.now(), cpuMs: (user + system) / 1_000 };
}

export function spentSince({ realMs, cpuMs }: Spent): Spent {
  const now = spentSoFar();
  return { realMs: now.realMs - realMs, cpuMs: now.cpuMs - cpuMs };
}

export function sumOf(a: Spent, b: Spent): Spent {
  return { realMs: a.realMs + b.realMs, cpuMs: a.cpuMs + b.cpuMs };
}

export const NOTHING_SPENT: Spent = { realMs: 0, cpuMs: 0 };
