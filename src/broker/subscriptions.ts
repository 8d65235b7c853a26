// Pages of a topic's subscriptions, by name, out of what its partitions hold.

import { SUBSCRIPTION_ROWS_MAX } from "../base/limits.ts";
import type { GroupOffsets } from "./local-groups.ts";
import type { SubscriptionInfo, SubscriptionPage } from "./types.ts";

type Row = SubscriptionInfo["partitions"][number];

/** Names of one page: each may have a row in every partition. 0 asks for as many as there may be. */
export function subscriptionsPerPage(partitions: number, namesMax: number): number {
  const allowed = Math.max(1, Math.floor(SUBSCRIPTION_ROWS_MAX / partitions));
  return namesMax === 0 ? allowed : Math.min(namesMax, allowed);
}

/** `offsets` has, per partition, the first `namesMax` cursors after the page before. Throws a partition's error. */
export function subscriptionPage(offsets: readonly GroupOffsets[], namesMax: number): SubscriptionPage {
  const found = new Map<string, Row[]>();
  let isAnyCut = false;
  offsets.forEach(({ cursors, endOffset, error }, partition) => {
    if (error !== null) throw error;
    if (cursors.length === namesMax) isAnyCut = true;
    for (const { name, offset, committedMs } of cursors) {
      const row = { partition, committedOffset: offset, endOffset, committedMs };
      const rows = found.get(name);
      if (rows === undefined) found.set(name, [row]);
      else rows.push(row);
    }
  });
  // A name among the first of the union is among the first of every partition that has it, so these are complete.
  const names = [...found.keys()].sort();
  const page = names.slice(0, namesMax);
  return {
    subscriptions: page.map((name) => ({ name, partitions: found.get(name)! })),
    next: names.length > page.length || isAnyCut ? page[page.length - 1]! : null,
  };
}
