// Who was elected meanwhile: the nodes count the terms that any of their groups begins, whatever the reason, and the leaders
// of all partitions are looked at before and after.

import { setTimeout as delay } from "node:timers/promises";
import type { Flotilla } from "../../src/client/index.ts";
import type { Nodes } from "../nodes.ts";

const TERMS = "flotilla_terms_begun_total";
const STALLS = "flotilla_event_loop_stalls_total";
const LATE = '{at_least="0.1"}';
const SETTLE_MS_MAX = 60_000;
const SETTLE_LOOK_MS = 100;

type Led = { readonly leader: number; readonly term: number };
/** What can be seen at one moment. */
export type Seen = {
  /** By node, since its process started. */
  readonly terms: readonly number[];
  /** Times that its event loop was late by a tenth of a second. */
  readonly late: readonly number[];
  /** By the name of a partition, and "controller". */
  readonly groups: ReadonlyMap<string, Led>;
};

export type Elections = {
  /** By node: terms that groups began there. An election is seen by all members of its group. */
  readonly terms: readonly number[];
  readonly late: readonly number[];
  /** In words: groups whose leader or term is another one. */
  readonly changes: readonly string[];
};

export class ElectionWatch {
  private readonly nodes: Nodes;
  private readonly client: Flotilla;
  private readonly topics: readonly string[];

  constructor(nodes: Nodes, client: Flotilla, topics: readonly string[]) {
    this.nodes = nodes;
    this.client = client;
    this.topics = topics;
  }

  async look(): Promise<Seen> {
    const each = (name: string, labels: string): Promise<number[]> =>
      Promise.all(this.nodes.ids.map((node) => this.nodes.metric(node, name, labels)));
    const groups = new Map<string, Led>();
    const { controllerId } = await this.client.cluster.describe();
    groups.set("controller", { leader: controllerId, term: 0 });
    for (const topic of this.topics)
      for (const { partition, leader, term } of (await this.client.cluster.resolve(topic)).partitions)
        groups.set(`${topic}/${partition}`, { leader, term: Number(term) });
    return { terms: await each(TERMS, ""), late: await each(STALLS, LATE), groups };
  }

  /** Resolves when every partition is led where its placement wants it: none moves by itself any more. */
  async settled(): Promise<void> {
    for (const until = Date.now() + SETTLE_MS_MAX; ; await delay(SETTLE_LOOK_MS)) {
      const away: string[] = [];
      for (const topic of this.topics)
        for (const { partition, leader, replicas } of (await this.client.cluster.resolve(topic)).partitions)
          if (leader !== replicas[0]) away.push(`${topic}/${partition}`);
      if (away.length === 0) return;
      if (Date.now() > until) throw new Error(`not led where they should be: ${away.join(", ")}`);
    }
  }
}

export function electionsBetween(before: Seen, after: Seen): Elections {
  const grown = (pick: (seen: Seen) => readonly number[]): number[] => pick(after).map((value, at) => value - pick(before)[at]!);
  const changes = [...after.groups].flatMap(([group, now]) => {
    const then = before.groups.get(group);
    if (then === undefined || (then.leader === now.leader && then.term === now.term)) return [];
    return [`${group}: node ${then.leader} in term ${then.term}, then node ${now.leader} in term ${now.term}`];
  });
  return { terms: grown(({ terms }) => terms), late: grown(({ late }) => late), changes };
}
