// What processes cost, from the operating system's own books: CPU seconds and bytes sent to the disk.

import { readdirSync, readFileSync } from "node:fs";

export type Cost = { readonly cpuSeconds: number; readonly writtenBytes: number };

/** Clock ticks of /proc/PID/stat; 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Of the processes and all their descendants that are alive now. */
export function costOf(pids: readonly number[]): Cost {
  let cpuSeconds = 0;
  let writtenBytes = 0;
  for (const pid of withDescendants(pids)) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      cpuSeconds += (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
      writtenBytes += Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1] ?? 0);
    } catch {
      // Gone meanwhile.
    }
  }
  return { cpuSeconds, writtenBytes };
}

/** Of this process alone, without the children that it started. */
export function ownCost(): Cost {
  const { user, system } = process.cpuUsage();
  return { cpuSeconds: (user + system) / 1e6, writtenBytes: 0 };
}

export function difference(after: Cost, before: Cost): Cost {
  return { cpuSeconds: after.cpuSeconds - before.cpuSeconds, writtenBytes: after.writtenBytes - before.writtenBytes };
}

/** The processes, and all that they have started and these in turn, that are alive now. */
export function withDescendants(roots: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      const list = children.get(parent);
      if (list === undefined) children.set(parent, [Number(name)]);
      else list.push(Number(name));
    } catch {
      // Gone meanwhile.
    }
  }
  const all = [...roots];
  for (let at = 0; at < all.length; at++) all.push(...(children.get(all[at]!) ?? []));
  return [...new Set(all)];
}
