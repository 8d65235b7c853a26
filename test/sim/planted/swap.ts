// What a planted bug is, and the way to plant it: a method of the product's classes is swapped in this process.

import type { GivenOptions } from "../options.ts";

export type Planted = {
  readonly name: string;
  /** The promise that is broken, in words. */
  readonly what: string;
  /** It must be found within so many seeds. */
  readonly within: number;
  /**
   * What its runs are given instead of what a seed would draw: for a bug that needs a coincidence which short runs of the whole swarm
   * seldom make. The table says so.
   */
  readonly run?: Omit<GivenOptions, "seed">;
  /** Returns the way back. */
  readonly plant: () => () => void;
};

type Method = (this: never, ...call: never[]) => unknown;
type Class = { readonly prototype: object };

/** Swaps a method, private or not; returns the way back. */
export function swap<T extends Method>(type: Class, name: string, make: (original: T) => T): () => void {
  const methods = type.prototype as Record<string, Method>;
  const original = methods[name];
  if (original === undefined) throw new Error(`there is no method ${name} any more`);
  methods[name] = make(original as T);
  return () => void (methods[name] = original);
}

/** The same for a property that is computed. */
export function swapGetter<This, T>(type: Class, name: string, make: (original: (self: This) => T) => (self: This) => T): () => void {
  const original = Object.getOwnPropertyDescriptor(type.prototype, name);
  if (original?.get === undefined) throw new Error(`there is no property ${name} any more`);
  const made = make((self) => original.get!.call(self) as T);
  Object.defineProperty(type.prototype, name, {
    ...original,
    get(this: This) {
      return made(this);
    },
  });
  return () => void Object.defineProperty(type.prototype, name, original);
}

export function both(...plants: readonly (() => () => void)[]): () => () => void {
  return () => {
    const undos = plants.map((plant) => plant());
    return () => {
      for (const undo of undos) undo();
    };
  };
}
