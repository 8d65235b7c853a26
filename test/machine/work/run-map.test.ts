import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../../src/base/bytes.ts";
import { NOWHERE, RunMap } from "../../../src/machine/work/run-map.ts";

function contents(map: RunMap): [number, number, number][] {
  const runs: [number, number, number][] = [];
  for (let place = map.next(0); place !== NOWHERE; place = map.next(map.end(place)))
    runs.push([map.from(place), map.end(place), map.value(place, 0)]);
  return runs;
}

/** The runs that a plain map of offsets would be, where neighbours that are alike are one. */
function expected(model: ReadonlyMap<number, number>): [number, number, number][] {
  const runs: [number, number, number][] = [];
  for (const offset of [...model.keys()].sort((a, b) => a - b)) {
    const last = runs[runs.length - 1];
    if (last !== undefined && last[1] === offset && last[2] === model.get(offset)) last[1] += 1;
    else runs.push([offset, offset + 1, model.get(offset)!]);
  }
  return runs;
}

const change = fc.record({ from: fc.nat(3_000), length: fc.integer({ min: 1, max: 40 }), value: fc.nat(3), clears: fc.boolean() });

test("run map: whatever is assigned and cleared, it says what a map of offsets says, in as few runs as that takes", () => {
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 1_200 }), (changes) => {
      const map = new RunMap(1);
      const model = new Map<number, number>();
      for (const { from, length, value, clears } of changes) {
        let there = 0;
        for (let offset = from; offset < from + length; offset++) {
          if (clears && model.delete(offset)) there += 1;
          if (!clears) model.set(offset, value);
        }
        if (clears) expect(map.clear(from, from + length)).toBe(there);
        else map.assign(from, from + length, value);
      }
      const runs = expected(model);
      expect(contents(map)).toEqual(runs);
      expect([map.size, map.runs, map.first]).toEqual([model.size, runs.length, runs[0]?.[0] ?? -1]);
      for (const { from } of changes.slice(0, 50)) expect(map.get(from, 0, -1)).toBe(model.get(from) ?? -1);
      const writer = new ByteWriter();
      map.write(writer);
      const bytes = writer.finish();
      const again = RunMap.read(1, new ByteReader(bytes));
      expect(contents(again)).toEqual(runs);
    }),
    { numRuns: 60 },
  );
});

test("run map: ten million offsets in a row are one run, and every second of a hundred thousand a run each", () => {
  const map = new RunMap(0);
  for (let offset = 0; offset < 10_000_000; offset += 1_000) map.assign(offset, offset + 1_000);
  expect([map.size, map.runs]).toEqual([10_000_000, 1]);
  for (let offset = 1; offset < 200_000; offset += 2) map.clear(offset, offset + 1);
  expect([map.size, map.runs]).toEqual([9_900_000, 100_001]);
  expect(map.clear(0, 10_000_000)).toBe(9_900_000);
  expect([map.size, map.runs, map.first]).toEqual([0, 0, -1]);
});
