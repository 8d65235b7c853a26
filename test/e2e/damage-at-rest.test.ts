// The damage matrix, of files of a node that is down: it finds the damage as it starts, or afterwards.

import { afterAll, beforeAll, describe, test } from "vitest";
import { DamageBench, DAMAGES, isDaily, KINDS } from "../support/damage.ts";

const DAILY: readonly string[] = ["flip in 20 places", "delete"];
const damages = Object.keys(DAMAGES).filter((damage) => !isDaily || DAILY.includes(damage));

let bench: DamageBench;
beforeAll(async () => {
  bench = await DamageBench.start();
}, 60_000);
afterAll(() => bench[Symbol.asyncDispose]());

describe.each(Object.keys(KINDS))("damage at rest: %s", (kind) => {
  beforeAll(() => bench.begin(kind));
  afterAll(() => bench.finish());

  test.each(damages)("%s", { timeout: 120_000 }, (damage) => bench.atRest(kind, damage));

  test("nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, () => bench.judge());
});
