// Queues beside RabbitMQ's quorum queues, in the same run: publishing, consuming with acknowledgements, both at once, and how long a
// message takes from when it was due to whom it was for.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ofRounds, type Figure, type FigureRun } from "./figures.ts";
import { FlotillaQueues } from "./queue-flotilla.ts";
import { RabbitmqQueues } from "./queue-rabbitmq.ts";
import { DUE_BYTES, dueOf, type QueueSystem } from "./queue-system.ts";
import { spread, type Spread } from "./spread.ts";
import { table } from "./table.ts";

const BYTES = 128;
const MANY = 10;
const PERCENTILES = [
  ["p50", 0.5],
  ["p99", 0.99],
] as const;
const SETTLE_MS_MAX = 120_000;
const POLL_MS = 5;

export type QueuePlan = {
  readonly seconds: number;
  /** Of a paced load, before what is counted: whatever compiles itself while it runs, and fills its caches, has done so by then. */
  readonly leadInSeconds: number;
  readonly rounds: number;
  readonly withRabbitmq: boolean;
  readonly progress: (text: string) => void;
};
/** Rounds of one scenario by the system's name: messages a second, or ms. */
type Rounds = Map<string, number[]>;
/** Without `times` or `part` it is told for orientation: nothing is asked of it. */
type Wanted = { readonly scenario: string; readonly times?: number; readonly part?: number };

const SAME_LOAD = "end to end at the same load";
const OWN_LOAD = "end to end at half of its own peak";

const WANTED: readonly Wanted[] = [
  { scenario: "publish, 1 queue", times: 5 },
  { scenario: `publish, ${MANY} queues`, times: 5 },
  { scenario: "consume and acknowledge, 1 queue", times: 3 },
  { scenario: `consume and acknowledge, ${MANY} queues`, times: 3 },
  { scenario: `both at once, ${MANY} queues`, times: 4 },
  { scenario: `${SAME_LOAD}, p50`, part: 0.5 },
  { scenario: `${SAME_LOAD}, p99`, part: 0.5 },
  { scenario: `${OWN_LOAD}, p50` },
  { scenario: `${OWN_LOAD}, p99` },
];

export async function runQueues(directory: string, plan: QueuePlan): Promise<FigureRun> {
  const systems = await startAll(directory, plan);
  try {
    const measured = await measure(systems, plan);
    const report = {
      systems: systems.map(({ name, version, settings }) => ({ name, version, settings })),
      points: [...measured].map(([scenario, rounds]) => ({ scenario, rounds: Object.fromEntries(rounds) })),
    };
    return { report, figures: figuresOf(measured, plan.withRabbitmq), head: head(systems, measured, plan) };
  } finally {
    for (const system of systems) await system.stop();
  }
}

async function startAll(directory: string, { withRabbitmq, progress }: QueuePlan): Promise<QueueSystem[]> {
  const folder = (name: string): string => {
    mkdirSync(join(directory, name));
    return join(directory, name);
  };
  progress("starting flotilla");
  const systems: QueueSystem[] = [await FlotillaQueues.start(folder("flotilla"))];
  if (!withRabbitmq) return systems;
  progress("starting rabbitmq");
  const rabbitmq = await RabbitmqQueues.start(folder("rabbitmq"));
  if (rabbitmq === undefined) progress("rabbitmq is not installed (Debian: apt-get install rabbitmq-server): left out");
  else systems.push(rabbitmq);
  return systems;
}

async function measure(systems: readonly QueueSystem[], plan: QueuePlan): Promise<Map<string, Rounds>> {
  const measured = new Map<string, Rounds>(WANTED.map(({ scenario }) => [scenario, new Map()]));
  const note = (scenario: string, { name }: QueueSystem, value: number): void => {
    const rounds = measured.get(scenario)!;
    rounds.set(name, [...(rounds.get(name) ?? []), value]);
  };
  for (let round = 1; round <= plan.rounds; round++) {
    const say = (system: QueueSystem, what: string): void => plan.progress(`round ${round} of ${plan.rounds}, ${system.name}: ${what}`);
    const peaks: number[] = [];
    for (const system of systems) {
      for (const count of [1, MANY]) {
        const many = count === 1 ? "1 queue" : `${MANY} queues`;
        say(system, `publish, consume, ${many}`);
        const { published, consumed } = await publishThenConsume(system, count, plan.seconds);
        note(`publish, ${many}`, system, published);
        note(`consume and acknowledge, ${many}`, system, consumed);
      }
      say(system, "both at once");
      const peak = await both(system, plan.seconds);
      note(`both at once, ${MANY} queues`, system, peak);
      peaks.push(peak);
    }
    // The same load is half of what the slower one can do.
    for (const [name, loads] of [
      [SAME_LOAD, peaks.map(() => Math.min(...peaks) / 2)],
      [OWN_LOAD, peaks.map((peak) => peak / 2)],
    ] as const)
      for (const [at, system] of systems.entries()) {
        say(system, `${name}, ${Math.round(loads[at]!).toLocaleString("en")} msg/s`);
        const latencies = await endToEnd(system, loads[at]!, plan);
        for (const [which, part] of PERCENTILES) note(`${name}, ${which}`, system, latencies[Math.floor(latencies.length * part)]!);
      }
  }
  return measured;
}

async function publishThenConsume(system: QueueSystem, count: number, seconds: number): Promise<{ published: number; consumed: number }> {
  const queues = await system.create(count);
  let acked = 0;
  const isOver = after(seconds);
  const began = performance.now();
  await system.flood({ queues, bytes: BYTES, isOver, acked: () => (acked += 1) });
  const published = rateOf(acked, began);
  let settled = 0;
  const consumingSince = performance.now();
  const end = await system.take({ queues, taken: () => {}, settled: () => (settled += 1) });
  await until(() => settled >= acked, `${acked} messages to be taken`);
  const consumed = rateOf(settled, consumingSince);
  await end();
  await system.remove(queues);
  return { published, consumed };
}

/** Messages a second that were published, taken and acknowledged while both went on: what of them stays behind is not counted. */
async function both(system: QueueSystem, seconds: number): Promise<number> {
  const queues = await system.create(MANY);
  let settled = 0;
  const end = await system.take({ queues, taken: () => {}, settled: () => (settled += 1) });
  const isOver = after(1 + seconds);
  const flood = system.flood({ queues, bytes: BYTES, isOver, acked: () => {} });
  await until(after(1), "the first second");
  const [before, began] = [settled, performance.now()];
  await until(isOver, "the time to pass");
  const rate = rateOf(settled - before, began);
  await flood;
  await end();
  await system.remove(queues);
  return rate;
}

/** Milliseconds, ascending; of the messages that were due after the lead-in. */
async function endToEnd(system: QueueSystem, rate: number, { seconds, leadInSeconds }: QueuePlan): Promise<number[]> {
  const queues = await system.create(MANY);
  const latencies: number[] = [];
  let settled = 0;
  let countedMs = Number.POSITIVE_INFINITY;
  const taken = (body: Uint8Array): void => {
    const dueMs = dueOf(body);
    if (dueMs >= countedMs) latencies.push(performance.now() - dueMs);
  };
  const end = await system.take({ queues, taken, settled: () => (settled += 1) });
  const pacing = { queues, bytes: Math.max(BYTES, DUE_BYTES), rate, seconds: leadInSeconds + seconds };
  countedMs = performance.now() + leadInSeconds * 1_000;
  await system.pace(pacing);
  await until(() => settled >= Math.floor(rate * pacing.seconds), "every message to be taken");
  await end();
  await system.remove(queues);
  return latencies.sort((a, b) => a - b);
}

function after(seconds: number): () => boolean {
  const endMs = performance.now() + seconds * 1_000;
  return () => performance.now() >= endMs;
}

function rateOf(messages: number, sinceMs: number): number {
  return messages / ((performance.now() - sinceMs) / 1_000);
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUpMs = performance.now() + SETTLE_MS_MAX;
  while (!condition()) {
    if (performance.now() > giveUpMs) throw new Error(`waited ${SETTLE_MS_MAX / 1_000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function figuresOf(measured: ReadonlyMap<string, Rounds>, withRabbitmq: boolean): Figure[] {
  return WANTED.map(({ scenario, times, part }): Figure => {
    const rounds = measured.get(scenario)!;
    const [ours, theirs] = [rounds.get("flotilla")!, rounds.get("rabbitmq")];
    const isTime = scenario.startsWith("end to end");
    const name = isTime ? `${scenario}: of RabbitMQ's` : `${scenario}: times RabbitMQ's`;
    const wanted = times !== undefined ? { atLeast: times } : part !== undefined ? { atMost: part } : null;
    if (theirs === undefined)
      return { name, unit: "", measured: null, wanted: withRabbitmq ? wanted : null, note: "nothing to compare with" };
    return { name, unit: "", ...ofRounds(spread(ours.map((value, at) => value / theirs[at]!))), wanted };
  });
}

function head(systems: readonly QueueSystem[], measured: ReadonlyMap<string, Rounds>, { leadInSeconds }: QueuePlan): string {
  const rows = [...measured].map(([scenario, rounds]) => [
    scenario,
    ...systems.map(({ name }) => shown(scenario, spread(rounds.get(name)!))),
  ]);
  const about = systems.map(({ name, version, settings }) => `${name} ${version}: ${settings}\n`).join("");
  return `\n${about}messages of ${BYTES} B; end to end after ${leadInSeconds} s of the same load\n\n${table([["scenario", ...systems.map(({ name }) => name)], ...rows])}\n`;
}

function shown(scenario: string, { median, min, max }: Spread): string {
  const [unit, digits] = scenario.startsWith("end to end") ? ["ms", 1] : ["msg/s", 0];
  const text = (value: number): string => value.toLocaleString("en", { maximumFractionDigits: digits });
  return `${text(median)} ${unit} (${text(min)}..${text(max)})`;
}
