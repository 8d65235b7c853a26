// Rows by key, and in the order of their keys.

import { SortedKeys } from "../sorted-keys.ts";

export class Table<Row> {
  private readonly rows = new Map<string, Row>();
  private readonly keys = new SortedKeys();

  get size(): number {
    return this.rows.size;
  }

  get(key: string): Row | undefined {
    return this.rows.get(key);
  }

  set(key: string, row: Row): void {
    this.keys.add(key);
    this.rows.set(key, row);
  }

  delete(key: string): boolean {
    this.keys.delete(key);
    return this.rows.delete(key);
  }

  /** Ascending by key, from the first one after `after` on. */
  *after(after: string): Generator<Row> {
    for (let at = this.keys.placeAfter(after); at < this.keys.size; at++) yield this.rows.get(this.keys.at(at))!;
  }

  /** Those whose key begins with `prefix`. Do not change the table meanwhile. */
  *of(prefix: string): Generator<Row> {
    for (let at = this.keys.placeOf(prefix); at < this.keys.size && this.keys.at(at).startsWith(prefix); at++)
      yield this.rows.get(this.keys.at(at))!;
  }
}
