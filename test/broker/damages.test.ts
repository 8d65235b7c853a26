import { expect, test } from "vitest";
import type { GroupId, NodeId } from "../../src/base/ids.ts";
import { DAMAGES_TOLD_MAX, ERROR_TEXT_LENGTH_MAX } from "../../src/base/limits.ts";
import { Damages, decodeDamages, encodeDamages, toTell } from "../../src/broker/damages.ts";

const [ONE, TWO] = [1, 2] as [NodeId, NodeId];
const damage = (group: number, reason = `reason ${group}`): { group: GroupId; reason: string } => ({ group: group as GroupId, reason });

test("damages: what each node said last is known until it is gone, and news are told from the same again", () => {
  const damages = new Damages();
  expect(damages.set(TWO, [])).toBe(false);
  expect(damages.set(TWO, [damage(7), damage(8)])).toBe(true);
  expect(damages.set(TWO, [damage(7), damage(8)])).toBe(false);
  expect(damages.set(ONE, [damage(9)])).toBe(true);
  expect(damages.all()).toEqual([
    { node: 1, ...damage(9) },
    { node: 2, ...damage(7) },
    { node: 2, ...damage(8) },
  ]);
  expect(damages.set(TWO, [damage(7, "another"), damage(8)])).toBe(true);
  damages.forget(ONE);
  expect(damages.set(TWO, [])).toBe(true);
  expect(damages.all()).toEqual([]);
});

test("damages: of many the first few are told, with the beginning of each reason", () => {
  const all = new Map(Array.from({ length: 200 }, (_, at) => [at as GroupId, { reason: "x".repeat(10_000) }]));
  const told = decodeDamages(encodeDamages(toTell(all)));
  expect([told.length, told[3]!.group, told[3]!.reason.length]).toEqual([DAMAGES_TOLD_MAX, 3, ERROR_TEXT_LENGTH_MAX]);
});
