// How long a node takes to find where a message goes, with very many bindings at one topic exchange. Routing is a node's own: nobody is
// asked, so it is measured without nodes, over the same table that they use.

import type { HeadersBinding } from "../src/machine/routing/headers-match.ts";
import { RoutingTable } from "../src/machine/routing/routing-table.ts";
import type { Figure, FigureRun } from "./figures.ts";

const EXCHANGE = "events";
const QUEUES = 1_000;
/** Words of each place of a key: region.kind.customer.event. */
const WORDS = [5, 10, 200, 10] as const;
const ROUNDS = 5;
const NO_HEADERS: HeadersBinding = { match: "all", headers: new Map() };

export type BindingsReport = {
  readonly bindings: number;
  readonly routed: number;
  /** Microseconds for one message: the mean of each round. */
  readonly roundsUs: readonly number[];
  readonly p99Us: number;
  /** Queues that a message goes to, on average. */
  readonly fanOut: number;
};

export function runBindings(bindings: number, isTiny: boolean): FigureRun {
  const random = numbers(1);
  const table = tableOf(bindings, random);
  const count = isTiny ? 1_000 : 100_000;
  const keys = Array.from({ length: count }, () => WORDS.map((words, place) => word(place, random(words))).join("."));
  const all: number[] = [];
  const roundsUs: number[] = [];
  let copies = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now();
    for (const key of keys) {
      const since = performance.now();
      copies += table.route(EXCHANGE, { key, headers: NO_HEADERS.headers })!.length;
      all.push((performance.now() - since) * 1_000);
    }
    roundsUs.push(((performance.now() - began) * 1_000) / count);
  }
  all.sort((a, b) => a - b);
  const report = { bindings, routed: count, roundsUs, p99Us: all[Math.floor(all.length * 0.99)]!, fanOut: copies / all.length };
  return { report, figures: figuresOf(report) };
}

/** Bindings as services make them: most name a customer, some have a star, a few a hash. */
function tableOf(bindings: number, random: (below: number) => number): RoutingTable {
  const table = new RoutingTable();
  table.addExchange({ name: EXCHANGE, type: "topic", alternate: "" });
  for (let at = 0; at < QUEUES; at++) table.addQueue(`q${at}`);
  for (let at = 0; at < bindings; at++) {
    const words = WORDS.map((count, place) => word(place, random(count)));
    const shape = random(100);
    if (shape < 30) words[random(2)] = "*";
    else if (shape < 35) words[3] = "#";
    else if (shape < 37) words.splice(0, 2, "#");
    table.bind({ source: EXCHANGE, destination: `q${at % QUEUES}`, destinationKind: "queue", key: words.join("."), headers: NO_HEADERS });
  }
  return table;
}

function word(place: number, number: number): string {
  return `${"rkce"[place]}${number}`;
}

/** The same on every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function figuresOf({ bindings, roundsUs, p99Us, fanOut }: BindingsReport): Figure[] {
  const name = `a message through a topic exchange with ${bindings.toLocaleString("en")} bindings`;
  const sorted = [...roundsUs].sort((a, b) => a - b);
  return [
    {
      name: `${name}: mean`,
      unit: "us",
      measured: sorted[Math.floor(sorted.length / 2)]!,
      range: [sorted[0]!, sorted[sorted.length - 1]!],
      wanted: { atMost: 20 },
      note: `to ${fanOut.toFixed(1)} queues each`,
    },
    { name: `${name}: p99`, unit: "us", measured: p99Us, wanted: null },
  ];
}
