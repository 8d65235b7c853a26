// How long the most expensive requests hold a node's event loop: each is sent as fast as it is taken, and the nodes say
// themselves how late they were and whether anybody was elected.

import { attacks } from "./attacks.ts";
import { outcomeText, prepareTargets, sendAttack } from "./attacking.ts";
import { FlotillaSystem } from "./flotilla.ts";
import { table } from "./table.ts";

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
    const targets = await prepareTargets(system, { partitions, fillSeconds: FILLING_SECONDS });
    const rows = [["request", "legal", "calls by gRPC status", "loop late by at most", "late by 0.1 s", "terms begun"]];
    for (const { name, isLegal } of attacks(targets)) {
      progress(name);
      const before = await system.metrics();
      const outcome = outcomeText(await sendAttack({ endpoint: system.nodes.endpoints[0]!, seconds, targets, name }));
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
