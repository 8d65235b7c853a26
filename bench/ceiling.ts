// What the machine could do at most, from its parts: three copies of every byte on the disk, and every byte three times
// over the loopback (to the leader, and from there to two followers). Both take the same cores, so their times add up.

import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const RAW = fileURLToPath(new URL("raw-part.js", import.meta.url));
const BUILT_RAW = fileURLToPath(new URL("../dist/bench/raw-part.js", import.meta.url));
const COPIES = 3;

export type Ceiling = {
  /** Bytes per second of three processes together, each with 1 MiB writes into a preallocated file of its own, each synced. */
  readonly diskBytesPerSecond: number;
  /** Bytes per second of three connections together, each between two processes, 256 KiB a write. */
  readonly loopbackBytesPerSecond: number;
  /** Payload bytes per second when each is written three times and sent three times, and nothing else is done. */
  readonly payloadBytesPerSecond: number;
};

export async function measureCeiling(directory: string, seconds: number): Promise<Ceiling> {
  const disk = await together((at) => raw("disk", join(directory, `ceiling-${at}`), String(seconds)));
  const loopback = await together(() => throughLoopback(seconds));
  return {
    diskBytesPerSecond: disk,
    loopbackBytesPerSecond: loopback,
    payloadBytesPerSecond: 1 / (COPIES / disk + COPIES / loopback),
  };
}

async function together(one: (at: number) => Promise<number>): Promise<number> {
  const rates = await Promise.all(Array.from({ length: COPIES }, (_, at) => one(at)));
  return rates.reduce((sum, rate) => sum + rate, 0);
}

/** Runs one part in a process of its own; resolves with its bytes per second. */
async function raw(...args: readonly string[]): Promise<number> {
  const { rate } = (await answer(start(args))) as { rate: number };
  return rate;
}

async function throughLoopback(seconds: number): Promise<number> {
  const sink = start(["sink"]);
  const { port } = (await answer(sink)) as { port: number };
  const received = answer(sink);
  await raw("source", String(port), String(seconds));
  return ((await received) as { rate: number }).rate;
}

function start(args: readonly string[]): ChildProcess {
  return fork(RAW.includes("/dist/") ? RAW : BUILT_RAW, args);
}

async function answer(child: ChildProcess): Promise<unknown> {
  const [message] = (await once(child, "message")) as [unknown];
  return message;
}
