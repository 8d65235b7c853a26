// The most expensive requests against a cluster of the bench: what they are aimed at, and how they are sent.

import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Targets } from "./attacks.ts";
import type { FlotillaSystem } from "./flotilla.ts";
import { run } from "./processes.ts";

// From the sources (in tests) the built program stands elsewhere than beside this file.
const BESIDE = fileURLToPath(new URL("attack.js", import.meta.url));
const BUILT = fileURLToPath(new URL("../dist/bench/attack.js", import.meta.url));
export const ATTACK_PROGRAM = BESIDE.includes("/dist/") ? BESIDE : BUILT;
/** The attack that fills a partition with tiny batches. */
const FILLING = "PublishStream, frames of 1,024 batches";

/** Calls that ended, by gRPC status; "" = the call was cut off. */
export type Outcome = Readonly<Record<string, number>>;

/** Topics for all attacks. `retentionBytes` of each partition; 0 = all is kept. Tiny batches are published for `fillSeconds`. */
export async function prepareTargets(
  system: FlotillaSystem,
  {
    partitions,
    retentionBytes = 0,
    fillSeconds,
  }: { readonly partitions: number; readonly retentionBytes?: number; readonly fillSeconds: number },
): Promise<Targets> {
  const topic = await system.createTarget(3, retentionBytes);
  const wide = await system.createTarget(partitions, retentionBytes);
  const tiny = await system.createTarget(1);
  const targets = { topic: topic.name, wide: wide.name, partitions, tiny: tiny.name };
  await sendAttack({
    endpoint: system.nodes.endpoints[0]!,
    seconds: fillSeconds,
    targets: { ...targets, topic: tiny.name },
    name: FILLING,
  });
  return targets;
}

/** Sends one kind for so long, as fast as it is taken. */
export async function sendAttack(order: {
  readonly endpoint: string;
  readonly seconds: number;
  readonly targets: Targets;
  readonly name: string;
}): Promise<Outcome> {
  const { endpoint, seconds, targets, name } = order;
  const attack = run(process.execPath, [ATTACK_PROGRAM, endpoint, String(seconds), JSON.stringify(targets), name]);
  const [code] = (await once(attack.child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`the attack failed: ${attack.output()}`);
  return (JSON.parse(attack.output()) as Record<string, Outcome>)[name]!;
}

export function outcomeText(outcome: Outcome): string {
  return Object.entries(outcome)
    .map(([status, count]) => `${count} x ${status === "" ? "cut off" : status}`)
    .join(", ");
}
