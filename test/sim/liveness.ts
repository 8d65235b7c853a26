// The end of a run: one node stays away for good, as dead or as stopped as it is, and the others must do all of the work.

import { between, chance, pick, type Owner, type World } from "./world.ts";
import type { Random } from "../../src/base/prng.ts";
import type { SimMachine } from "./sim-node.ts";

/** How far ahead a stopped process is kept from running, and how often that is renewed; virtual ms. */
const STOPPED_MS = 400;
const RENEWED_MS = 100;

/**
 * Which node the others can do without; null: none. One whose disk is damaged is away, as the others may have to make up for it; if
 * several are, nobody can be spared.
 */
export function spared(machines: readonly SimMachine[], damaged: readonly SimMachine[], random: Random): SimMachine | null {
  if (damaged.length > 1) return null;
  return damaged[0] ?? pick(random, machines);
}

/** Ends or stops the node's process. Returns the way back: from then on it starts again, or goes on. */
export function freeze(machine: SimMachine, parts: { world: World; owner: Owner; random: Random }): () => void {
  const { world, owner, random } = parts;
  const { life } = machine;
  if (life === null || chance(random, 50)) {
    machine.isHeldDown = true;
    machine.crash(chance(random, 50) ? "power" : "kill");
    return () => void (machine.isHeldDown = false);
  }
  let isOver = false;
  const renew = (): void => {
    if (isOver) return;
    life.pausedUntilUs = world.nowUs + STOPPED_MS * 1_000;
    world.after(between(random, RENEWED_MS / 2, RENEWED_MS) * 1_000, owner, "still stopped", renew);
  };
  renew();
  return () => {
    isOver = true;
    life.pausedUntilUs = 0;
  };
}
