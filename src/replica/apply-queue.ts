// Whose committed entries wait to be applied, and whose state to be saved. All groups together get a slice of each turn:
// heartbeats, votes and everybody's input go in between, however much there is to do.

import type { Clock } from "../base/clock.ts";
import type { Worked } from "../base/work.ts";
import type { Applier } from "./applier.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { Replica } from "./replica.ts";

export type ApplyQueueComponents = {
  readonly clock: Clock;
  readonly applier: Pick<Applier, "run">;
  readonly checkpointer: Pick<Checkpointer, "isDue" | "save" | "cut">;
  readonly worked: Worked;
};

export class ApplyQueue {
  private readonly components: ApplyQueueComponents;
  private replicas: Replica[] = [];

  constructor(components: ApplyQueueComponents) {
    this.components = components;
  }

  get isEmpty(): boolean {
    return this.replicas.length === 0;
  }

  /** Notes that there may be something to apply. */
  add(replica: Replica): void {
    if (replica.applied >= replica.committedTo || replica.applying) return;
    replica.applying = true;
    this.replicas.push(replica);
  }

  /** Works until the time is up, at least a little for one group. Whoever had nothing of it comes first the next time. */
  run(deadlineMs: number): void {
    const { clock } = this.components;
    const { replicas } = this;
    const unfinished: Replica[] = [];
    let nowMs = clock.monotonicMs();
    let at = 0;
    while (at < replicas.length) {
      const replica = replicas[at++]!;
      replica.applying = false;
      if (replica.closed) continue;
      if (this.serve(replica, nowMs, deadlineMs)) {
        replica.applying = true;
        unfinished.push(replica);
      }
      nowMs = clock.monotonicMs();
      if (nowMs > deadlineMs) break;
    }
    this.replicas = at === replicas.length ? unfinished : [...replicas.slice(at), ...unfinished];
  }

  /** True when something is left to do that waits for nothing but time. */
  private serve(replica: Replica, nowMs: number, deadlineMs: number): boolean {
    const { applier, checkpointer, worked } = this.components;
    // Saving goes before applying, or the state of a group that never falls quiet would never be saved.
    if (checkpointer.isDue(replica)) {
      void checkpointer.save(replica);
      worked("saving the state of a group", nowMs);
    } else {
      applier.run(replica, deadlineMs);
      worked("applying entries of a group", nowMs);
    }
    if (replica.closed) return false;
    checkpointer.cut(replica);
    return (replica.applied < replica.committedTo && !replica.reading) || checkpointer.isDue(replica);
  }
}
