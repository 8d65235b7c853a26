/** A map that is mostly empty: without entries it is one field. For what few of thousands of owners have at any time. */
export class SparseMap<K, V> {
  private map: Map<K, V> | null = null;

  get size(): number {
    return this.map?.size ?? 0;
  }

  get(key: K): V | undefined {
    return this.map?.get(key);
  }

  has(key: K): boolean {
    return this.map?.has(key) === true;
  }

  set(key: K, value: V): void {
    (this.map ??= new Map()).set(key, value);
  }

  delete(key: K): void {
    if (this.map?.delete(key) === true && this.map.size === 0) this.map = null;
  }

  clear(): void {
    this.map = null;
  }

  /** A copy: what is added or deleted meanwhile does not matter. */
  entries(): (readonly [key: K, value: V])[] {
    return this.map === null ? [] : [...this.map];
  }
}
