// What becomes due when: the earliest first, and of one time the lowest offset. Nothing is ever taken out before it is due; who
// takes it looks whether it still holds. So it is not part of the state: it is made anew from what is.

type Due = { readonly atMs: number; readonly from: number; readonly end: number };

export class DueHeap {
  private readonly heap: Due[] = [];

  get size(): number {
    return this.heap.length;
  }

  /** When the first one is due; -1 when there is none. It may hold no more. */
  get nextMs(): number {
    return this.heap[0]?.atMs ?? -1;
  }

  push(atMs: number, from: number, end: number): void {
    const { heap } = this;
    const due = { atMs, from, end };
    let at = heap.push(due) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(due, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = due;
  }

  /** The first one when it is due at `nowMs`, taken out. */
  pop(nowMs: number): Due | undefined {
    const { heap } = this;
    const first = heap[0];
    if (first === undefined || first.atMs > nowMs) return undefined;
    const last = heap.pop()!;
    if (heap.length > 0) this.sink(last);
    return first;
  }

  private sink(due: Due): void {
    const { heap } = this;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, due)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = due;
  }
}

function isBefore(one: Due, other: Due): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.from < other.from);
}
