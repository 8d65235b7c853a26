// The damage matrix, of files that a running node has in use.

import { afterAll, beforeAll, describe, test } from "vitest";
import { DamageBench, DAMAGES, isDaily, KINDS } from "../support/damage.ts";

const DAILY: readonly string[] = ["flip in 20 places"];
const damages = Object.keys(DAMAGES).filter((damage) => (isDaily ? DAILY.includes(damage) : damage !== "older copy"));

let bench: DamageBench;
beforeAll(async () => {
  bench = await DamageBench.start();
}, 60_000);
afterAll(() => bench[Symbol.asyncDispose]());

describe.each(Object.keys(KINDS))("damage while running: %s", (kind) => {
  beforeAll(() => bench.begin(kind));
  afterAll(() => bench.finish());

  test.each(damages)("%s", { timeout: 120_000 }, (damage) => bench.running(kind, damage));

  test("nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, () => bench.judge());
});
