import { expect, test } from "vitest";
import { copyInto } from "../../src/base/copy.ts";

test("copy: between memories of any kind, at any place, of any length, and nothing else changes", () => {
  const memories = (): ArrayBufferLike[] => [new ArrayBuffer(4_096), new SharedArrayBuffer(4_096)];
  for (const from of memories()) {
    for (const to of memories()) {
      for (const [start, at, length] of [
        [0, 0, 4_096],
        [1, 8, 1],
        [3, 7, 1_000],
        [8, 3, 2_049],
        [5, 4_096, 0],
      ] as const) {
        const source = new Uint8Array(from);
        const target = new Uint8Array(to).fill(9);
        for (let byte = 0; byte < source.length; byte++) source[byte] = (byte * 7) % 256;
        copyInto(target, at, source.subarray(start, start + length));
        const expected = Array.from(target, (_, byte) => (byte < at || byte >= at + length ? 9 : ((byte - at + start) * 7) % 256));
        expect(Array.from(target)).toEqual(expected);
      }
    }
  }
});

test("copy: what does not fit throws, and changes nothing", () => {
  const target = new Uint8Array(10);
  expect(() => copyInto(target, 5, new Uint8Array(6).fill(1))).toThrow(RangeError);
  expect(() => copyInto(target, 11, new Uint8Array(1).fill(1))).toThrow(RangeError);
  expect(Array.from(target)).toEqual(Array(10).fill(0));
});
