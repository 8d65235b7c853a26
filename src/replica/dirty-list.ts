import type { Replica } from "./replica.ts";

/** The replicas whose cores have something to collect, each once: those of which `dirty` is set. */
export class DirtyList {
  private replicas: Replica[] = [];

  get isEmpty(): boolean {
    return this.replicas.length === 0;
  }

  add(replica: Replica): void {
    if (replica.dirty) return;
    replica.dirty = true;
    this.replicas.push(replica);
  }

  /** All of them. Each may be added again once the caller has unset its `dirty`. */
  take(): readonly Replica[] {
    const { replicas } = this;
    this.replicas = [];
    return replicas;
  }
}
