// Faults of a cluster that is not ours: commands of its owner, with a node's names put in.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { between, pick, type Bite, type Draw, type FaultKind, type Strike } from "./fault.ts";

const run = promisify(execFile);
const COMMAND_MS_MAX = 120_000;
const TEXT_MAX = 300;

export type CommandNode = { readonly id: number; readonly endpoint: string };
export type CommandFaults = {
  /** What begins each fault; `{node}`, `{index}` (one less), `{host}` stand for the node that it strikes. */
  readonly begin: readonly string[];
  /** What ends each, in the same order; fewer or none if they end by themselves. */
  readonly end: readonly string[];
  readonly secondsMin: number;
  readonly secondsMax: number;
};

export function commandKinds({ begin, end, secondsMin, secondsMax }: CommandFaults, nodes: readonly CommandNode[]): FaultKind[] {
  return begin.map((command, at): FaultKind => ({
    name: `command ${at + 1}`,
    what: command,
    needs: [],
    draw: (draw) => commanding(draw, nodes, { begin: command, end: end[at], seconds: between(draw.random, secondsMin, secondsMax) }),
  }));
}

function commanding(
  { random, nodes }: Draw,
  known: readonly CommandNode[],
  plan: { readonly begin: string; readonly end: string | undefined; readonly seconds: number },
): Strike {
  const id = pick(random, nodes);
  const node = known.find((one) => one.id === id)!;
  let outcome: Bite = { bit: false, proof: "it did not run" };
  return {
    seconds: plan.seconds,
    begin: async () => {
      const command = filled(plan.begin, node);
      outcome = await outcomeOf(command);
      return command;
    },
    end: async () => {
      if (plan.end === undefined) return outcome;
      const ended = await outcomeOf(filled(plan.end, node));
      return { bit: outcome.bit && ended.bit, proof: `${outcome.proof}; then ${ended.proof}` };
    },
  };
}

export function filled(command: string, { id, endpoint }: CommandNode): string {
  const host = endpoint.slice(0, endpoint.lastIndexOf(":"));
  return command
    .replaceAll("{node}", String(id))
    .replaceAll("{index}", String(id - 1))
    .replaceAll("{host}", host);
}

async function outcomeOf(command: string): Promise<Bite> {
  try {
    const { stdout } = await run("/bin/sh", ["-c", command], { timeout: COMMAND_MS_MAX });
    return { bit: true, proof: `exit code 0 ${stdout.trim().slice(0, TEXT_MAX)}`.trim() };
  } catch (error) {
    return { bit: false, proof: `the command failed: ${(error as Error).message.slice(0, TEXT_MAX)}` };
  }
}
