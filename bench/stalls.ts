// How long the most expensive requests hold a node's event loop: each is sent as fast as it is taken, and the nodes say
// themselves how late they were and whether anybody was elected.

import { fileURLToPath } from "node:url";
import { once } from "node:events";
import { attacks, type Targets } from "./attacks.ts";
import { FlotillaSystem } from "./flotilla.ts";
import { run } from "./processes.ts";
import { table } from "./table.ts";

const ATTACK = fileURLToPath(new URL("attack.js", import.meta.url));
/** The attack that fills a partition with tiny batches, and for how long it does. */
const FILLING = "PublishStream, frames of 1,024 batches";
const FILLING_SECONDS = 3;
const BUCKET = /^flotilla_event_loop_delay_seconds_bucket\{le="(.+)"\}$/;

type Metrics = ReadonlyMap<string, number>;

/** Sends each attack for so long, to the node that leads what it is about. Returns a table for people. */
export async function measureStalls(
  directory: string,
  seconds: number,
  partitions: number,
  progress: (text: string) => void,
): Promise<string> {
  const system = await FlotillaSystem.start(directory);
  try {
    const targets = await prepare(system, partitions);
    const rows = [["request", "legal", "calls by gRPC status", "loop late by at most", "late by 0.1 s", "terms begun"]];
    for (const { name, isLegal } of attacks(targets)) {
      progress(name);
      const before = await system.metrics();
      const outcome = await send(system.nodes.endpoints[0]!, seconds, targets, name);
      const after = await system.metrics();
      const late = (at: number): number => grown(before[at]!, after[at]!, 'flotilla_event_loop_stalls_total{at_least="0.1"}');
      const terms = (at: number): number => grown(before[at]!, after[at]!, "flotilla_terms_begun_total");
      const each = (of: (at: number) => string | number): string => [0, 1, 2].map(of).join(" / ");
      rows.push([name, isLegal ? "yes" : "no", outcome, each((at) => longest(before[at]!, after[at]!)), each(late), each(terms)]);
    }
    return `${table(rows)}\n(three values: of the node that was asked, and of the two others)\n`;
  } finally {
    await system.stop();
  }
}

async function prepare(system: FlotillaSystem, partitions: number): Promise<Targets> {
  const topic = await system.createTarget(3);
  const wide = await system.createTarget(partitions);
  const tiny = await system.createTarget(1);
  const targets = { topic: topic.name, wide: wide.name, partitions, tiny: tiny.name };
  await send(system.nodes.endpoints[0]!, FILLING_SECONDS, { ...targets, topic: tiny.name }, FILLING);
  return targets;
}

async function send(endpoint: string, seconds: number, targets: Targets, name: string): Promise<string> {
  const attack = run(process.execPath, [ATTACK, endpoint, String(seconds), JSON.stringify(targets), name]);
  const [code] = (await once(attack.child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`the attack failed: ${attack.output()}`);
  const outcomes = JSON.parse(attack.output()) as Record<string, Record<string, number>>;
  return Object.entries(outcomes[name]!)
    .map(([status, count]) => `${count} x ${status === "" ? "cut off" : status}`)
    .join(", ");
}

function grown(before: Metrics, after: Metrics, name: string): number {
  return (after.get(name) ?? 0) - (before.get(name) ?? 0);
}

/** The bound of the highest bucket that got a sample. */
function longest(before: Metrics, after: Metrics): string {
  let below = 0;
  let bound = "0";
  for (const name of after.keys()) {
    const le = BUCKET.exec(name)?.[1];
    if (le === undefined) continue;
    const count = grown(before, after, name);
    if (count > below) bound = le;
    below = count;
  }
  return `${bound} s`;
}
