import { NOTHING } from "../base/nothing.ts";

/** Texts in ascending order by code unit, each once: pages of a large table need not sort it. */
export class SortedKeys {
  private keys: string[] = NOTHING;

  get size(): number {
    return this.keys.length;
  }

  at(place: number): string {
    return this.keys[place]!;
  }

  /** Does nothing when it is there already. */
  add(key: string): void {
    const last = this.keys[this.keys.length - 1];
    if (last === undefined) this.keys = [];
    if (last === undefined || last < key) {
      this.keys.push(key);
      return;
    }
    const place = this.placeOf(key);
    if (this.keys[place] !== key) this.keys.splice(place, 0, key);
  }

  delete(key: string): void {
    const place = this.placeOf(key);
    if (this.keys[place] === key) this.keys.splice(place, 1);
  }

  /** The place of the first key that is greater. */
  placeAfter(key: string): number {
    const place = this.placeOf(key);
    return this.keys[place] === key ? place + 1 : place;
  }

  /** The place of the first key that is not smaller. */
  placeOf(key: string): number {
    let low = 0;
    let high = this.keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
