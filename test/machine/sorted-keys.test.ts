import fc from "fast-check";
import { expect, test } from "vitest";
import { SortedKeys } from "../../src/machine/sorted-keys.ts";

test("sorted keys: the same as a sorted set, whatever is added and deleted", () => {
  const key = fc.string({ maxLength: 3 });
  const change = fc.record({ key, isAdd: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), key, (changes, place) => {
      const keys = new SortedKeys();
      const set = new Set<string>();
      for (const { key: one, isAdd } of changes) {
        if (isAdd) keys.add(one);
        else keys.delete(one);
        if (isAdd) set.add(one);
        else set.delete(one);
      }
      const expected = [...set].sort();
      expect(Array.from({ length: keys.size }, (_, at) => keys.at(at))).toEqual(expected);
      expect(keys.placeAfter(place)).toBe(expected.filter((one) => one <= place).length);
    }),
  );
});
