import { SparseMap } from "../base/sparse-map.ts";
import type { PeerId } from "../raft/types.ts";

/** A follower that fetched a snapshot has so long, from its last sign, to go on from there. */
const PIN_MS = 60_000;

type Pin = { readonly index: number; untilMs: number };

/**
 * From where followers who get a snapshot will go on. The log is not cut beyond, or a busy group would send one snapshot
 * after the other and never an entry. A pin lasts while its follower makes progress, so a node that is gone holds nothing.
 */
export class Pins {
  private readonly pins = new SparseMap<PeerId, Pin>();

  /** A snapshot at `index` waits to be sent. One that is tried again has the time that is left of the first try. */
  hold(peer: PeerId, index: number): void {
    if (this.pins.get(peer)?.index !== index) this.pins.set(peer, { index, untilMs: Number.POSITIVE_INFINITY });
  }

  /** The wait is over: from now on only progress makes it last. */
  release(peer: PeerId, nowMs: number): void {
    const pin = this.pins.get(peer);
    if (pin?.untilMs === Number.POSITIVE_INFINITY) pin.untilMs = nowMs + PIN_MS;
  }

  /** The follower got something. */
  extend(peer: PeerId, nowMs: number): void {
    const pin = this.pins.get(peer);
    if (pin !== undefined) pin.untilMs = Math.max(pin.untilMs, nowMs + PIN_MS);
  }

  /** The follower does not take it. */
  drop(peer: PeerId): void {
    this.pins.delete(peer);
  }

  /** Up to where the log may be cut. `matchOf`: what a follower is known to have; it no longer needs anything below. */
  limit(nowMs: number, matchOf: (peer: PeerId) => number): number {
    let limit = Number.POSITIVE_INFINITY;
    for (const [peer, { index, untilMs }] of this.pins.entries()) {
      if (nowMs > untilMs) this.pins.delete(peer);
      else limit = Math.min(limit, Math.max(index, matchOf(peer)));
    }
    return limit;
  }

  get size(): number {
    return this.pins.size;
  }

  clear(): void {
    this.pins.clear();
  }
}
