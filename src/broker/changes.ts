// Who waits on this node for something to change: for a leader, a node or the catalog.

import { waitUntil } from "./wait-until.ts";

export class Changes {
  private readonly watchers = new Set<() => void>();
  private readonly catalogWaits = new Set<() => void>();

  /** Told of every change, until the function that it returns is called. */
  watch(changed: () => void): () => void {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  }

  notify(): void {
    for (const watcher of this.watchers) watcher();
  }

  catalogChanged(): void {
    for (const wait of [...this.catalogWaits]) wait();
    this.notify();
  }

  /** Resolves once a leadership is where it is to be. */
  led(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return waitUntil(condition, (check) => this.watch(check), signal, "the leadership did not move in time; is the target up to date?");
  }

  /** Resolves once this node's catalog says so. */
  caughtUp(condition: () => boolean, signal: AbortSignal): Promise<void> {
    const subscribe = (check: () => void): (() => void) => {
      this.catalogWaits.add(check);
      return () => this.catalogWaits.delete(check);
    };
    return waitUntil(condition, subscribe, signal, "the change is made, but this node has not seen it yet");
  }
}
