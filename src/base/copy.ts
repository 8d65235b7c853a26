/** Part of every Node, though not of the types that this folder knows. */
declare const Buffer: {
  readonly prototype: { readonly fill: (this: Uint8Array, source: Uint8Array, start: number, end: number) => Uint8Array };
};
const { fill } = Buffer.prototype;

/**
 * Copies all of `source` to `target` from `at` on; throws a RangeError where it does not fit. As `target.set(source, at)`, which
 * goes byte by byte, ten to twenty times slower, if one of them is shared memory and they do not lie alike modulo 8: there V8
 * keeps the memory model, which who shares with nobody does not need. Filling with a source of the same length is a memcpy.
 */
export function copyInto(target: Uint8Array, at: number, source: Uint8Array): void {
  if (source.length > 0) fill.call(target, source, at, at + source.length);
}
