// What the failover series is told of a system under it: three nodes, numbered from 1, and partitions (queues, streams) with
// one leader each.

import type { SendProbe } from "./failover-probes.ts";

export type FailoverKind = "kill" | "stop" | "term" | "cut" | "mute" | "deaf";

/** In the order of the tables. */
export const FAILOVER_KINDS: Readonly<Record<FailoverKind, { readonly what: string; /** Longer is a miss. */ readonly wanted: Wanted }>> = {
  kill: { what: "SIGKILL", wanted: { p50Ms: 150, p99Ms: 500 } },
  stop: { what: "SIGSTOP", wanted: { p50Ms: 800, p99Ms: 1_500 } },
  cut: { what: "cut off from the other nodes, both ways", wanted: { p50Ms: 800, p99Ms: 1_500 } },
  mute: { what: "not heard by the other nodes", wanted: { p50Ms: 800, p99Ms: 1_500 } },
  deaf: { what: "hears nothing of the other nodes", wanted: { p50Ms: 800, p99Ms: 1_500 } },
  term: { what: "SIGTERM (graceful stop)", wanted: { p50Ms: null, p99Ms: 100 } },
};
export type Wanted = { readonly p50Ms: number | null; readonly p99Ms: number };

/** Kinds of faults of links, and of processes. */
export const LINK_KINDS: ReadonlySet<FailoverKind> = new Set(["cut", "mute", "deaf"]);
export const PROCESS_KINDS: ReadonlySet<FailoverKind> = new Set(["kill", "stop", "term"]);

/** Where a gap went, as the nodes' logs have it; ms since the fault. */
export type Parts = {
  /** Until the first and the last of the others took the node for lost. */
  readonly noticedMs: number;
  readonly allNoticedMs: number;
  /** Until some node led the partition. */
  readonly ledMs: number;
};

export interface FailoverTarget {
  readonly name: string;
  readonly version: string;
  readonly settings: string;
  readonly partitions: number;
  readonly kinds: ReadonlySet<FailoverKind>;
  /** Through the system's own client, which tries again as it is made to; one connection per partition. */
  readonly send: SendProbe;
  readonly sendOnce: SendProbe | null;
  /** By partition; 0 = nobody known. */
  leaders(): Promise<readonly number[]>;
  /** Resolves when every node serves and the leaders are where they should be. */
  settle(): Promise<void>;
  /** Resolves as soon as the fault is there; `over` when all that it does has happened. */
  strike(kind: FailoverKind, node: number): { readonly over: Promise<void> };
  /** Resolves when the node serves again. */
  heal(kind: FailoverKind, node: number): Promise<void>;
  /** By partition, of those that the struck node led; undefined = not told. */
  parts?(node: number, faultWallMs: number, partitions: readonly number[]): ReadonlyMap<number, Parts>;
  stop(): Promise<void>;
}
