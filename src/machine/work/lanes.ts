// Messages that wait for a consumer, by priority: the highest first, and of one priority in the order they came.

import { assert } from "../../base/assert.ts";
import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { PRIORITY_MAX } from "../../base/limits.ts";
import { NOWHERE, RunMap } from "./run-map.ts";

/** One run of offsets. */
export type Run = { readonly from: number; readonly end: number };

export class Lanes {
  /** By priority, which is strict: a message waits as long as there is one of a higher one. Most queues have one lane. */
  private readonly lanes: (RunMap | undefined)[] = [];
  private waiting = 0;

  /** Messages that wait. */
  get size(): number {
    return this.waiting;
  }

  /** The lowest offset that waits and is not below this one; -1 when none does. */
  from(offset: number): number {
    let first = -1;
    for (const lane of this.lanes) {
      const place = lane?.next(offset) ?? NOWHERE;
      if (place === NOWHERE) continue;
      const at = Math.max(offset, lane!.from(place));
      if (first < 0 || at < first) first = at;
    }
    return first;
  }

  /** Where the run of waiting messages ends that holds this one; 0 when it does not wait. */
  runEnd(offset: number): number {
    for (const lane of this.lanes) {
      const place = lane?.find(offset) ?? NOWHERE;
      if (place !== NOWHERE) return lane!.end(place);
    }
    return 0;
  }

  add(priority: number, from: number, end: number): void {
    assert(priority >= 0 && priority <= PRIORITY_MAX, "a priority is 0 to 31");
    const lane = (this.lanes[priority] ??= new RunMap(0));
    const before = lane.size;
    lane.assign(from, end);
    assert(lane.size - before === end - from, "a message waits once");
    this.waiting += end - from;
  }

  /** Takes out up to `max` messages that are next and follow each other; undefined when none waits. */
  take(max: number): Run | undefined {
    for (let priority = this.lanes.length - 1; priority >= 0; priority--) {
      const lane = this.lanes[priority];
      if (lane !== undefined && lane.size > 0) return this.takeOf(lane, max);
    }
    return undefined;
  }

  /** The oldest message of the lowest priority: what a queue that is full gives up first. */
  takeLeast(max: number): Run | undefined {
    for (const lane of this.lanes) if (lane !== undefined && lane.size > 0) return this.takeOf(lane, max);
    return undefined;
  }

  /** Takes out those of the offsets that wait, and tells which they were. */
  takeOut(from: number, end: number): Run[] {
    const found: Run[] = [];
    for (const lane of this.lanes) {
      if (lane === undefined) continue;
      for (let place = lane.next(from); place !== NOWHERE && lane.from(place) < end; place = lane.next(from)) {
        const run = { from: Math.max(from, lane.from(place)), end: Math.min(end, lane.end(place)) };
        lane.clear(run.from, run.end);
        found.push(run);
        this.waiting -= run.end - run.from;
      }
    }
    return found;
  }

  write(writer: ByteWriter): void {
    const used = [...this.lanes.keys()].filter((priority) => (this.lanes[priority]?.size ?? 0) > 0);
    writer.varint(used.length);
    for (const priority of used) {
      writer.u8(priority);
      this.lanes[priority]!.write(writer);
    }
  }

  static read(reader: ByteReader): Lanes {
    const lanes = new Lanes();
    for (let left = reader.varint(); left > 0; left--) {
      const priority = reader.u8();
      if (priority > PRIORITY_MAX) throw new DecodeError(`a lane of priority ${priority}`);
      const lane = RunMap.read(0, reader);
      lanes.lanes[priority] = lane;
      lanes.waiting += lane.size;
    }
    return lanes;
  }

  private takeOf(lane: RunMap, max: number): Run {
    const place = lane.next(0);
    const from = lane.from(place);
    const end = Math.min(lane.end(place), from + max);
    lane.clear(from, end);
    this.waiting -= end - from;
    return { from, end };
  }
}
