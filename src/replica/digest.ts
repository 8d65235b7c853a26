// A running sum over the entries that a replica has applied and over what its machine answered to each. Replicas that were
// given the same entries and came to the same state have the same sum at the same index; so a few bytes, told now and then,
// show whether they do. It is no defence against malice: it is there for bugs, and for memory and disks that lie.

import type { Machine } from "../machine/machine.ts";
import type { Entry, PeerId } from "../raft/types.ts";

/** As it is saved and sent. `a` and `b` are its two halves, 0..2^32-1. */
export type SavedDigest = {
  /** The index after which the sum begins. Sums that begin at different places cannot be compared. */
  readonly origin: number;
  readonly a: number;
  readonly b: number;
};

export class Digest {
  private originIndex: number;
  private sumA: number;
  private sumB: number;

  /** `saved`: null of a state that came from an earlier release; then the sum begins after it. */
  constructor(index: number, saved: SavedDigest | null) {
    this.originIndex = saved?.origin ?? index;
    this.sumA = (saved?.a ?? 0) | 0;
    this.sumB = (saved?.b ?? 0) | 0;
  }

  get saved(): SavedDigest {
    return { origin: this.originIndex, a: this.sumA >>> 0, b: this.sumB >>> 0 };
  }

  /** The machine is at another state from now on. */
  restore(index: number, saved: SavedDigest | null): void {
    this.originIndex = saved?.origin ?? index;
    this.sumA = (saved?.a ?? 0) | 0;
    this.sumB = (saved?.b ?? 0) | 0;
  }

  /**
   * The entry is applied, and the machine answered `code` and `value`. Entries are mixed one by one and added up: what two
   * sums differ by at one index they differ by at all later ones, so one can be moved to where the other began (`adopt`).
   */
  add({ index, term, kind, timestampMs, crc }: Entry, code: number, value: number): void {
    let a = Math.imul(index ^ 0x2c1b3c6d, 0x85ebca6b);
    let b = Math.imul(index ^ 0x297a2d39, 0xc2b2ae35);
    a = Math.imul((a ^ (a >>> 15)) + term, 0x27d4eb2f);
    b = Math.imul((b ^ (b >>> 13)) + crc, 0x9e3779b1);
    a = Math.imul((a ^ (a >>> 13)) + crc, 0x85ebca77);
    b = Math.imul((b ^ (b >>> 16)) + value, 0xc2b2ae3d);
    a = Math.imul((a ^ (a >>> 16)) + timestampMs, 0x165667b1);
    b = Math.imul((b ^ (b >>> 15)) + term + code * 64, 0x27d4eb2f);
    a = Math.imul((a ^ (a >>> 15)) + value, 0x9e3779b1);
    b = Math.imul((b ^ (b >>> 13)) + timestampMs, 0x85ebca6b);
    a = Math.imul((a ^ (a >>> 13)) + code * 8 + kind, 0xc2b2ae35);
    this.sumA = (this.sumA + (a ^ (a >>> 16))) | 0;
    this.sumB = (this.sumB + (b ^ (b >>> 16)) + kind) | 0;
  }

  /** Begins where another replica's sum does from now on: `a` and `b` are by how much that one is larger. */
  adopt({ origin, a, b }: SavedDigest): void {
    this.originIndex = origin;
    this.sumA = (this.sumA + a) | 0;
    this.sumB = (this.sumB + b) | 0;
  }
}

/** What a replica has at one index. */
export type Finding = SavedDigest & {
  /** Of the machine's whole state, see `stateDigest`; 0 = it was not asked for. */
  readonly state: number;
};

/** What a replica was last asked, by itself when it leads, and what it found. */
export type Question = { readonly from: PeerId; readonly index: number; readonly wantsState: boolean; finding: Finding | null };

/** What a leader has asked for and heard so far. */
export type Comparison = {
  readonly index: number;
  /** Members that were asked and have yet to answer, the leader included. */
  readonly waiting: Set<PeerId>;
  readonly findings: Map<PeerId, Finding>;
  /** Some contradict each other, and nobody has decided yet which are right. */
  differs: boolean;
};

/**
 * The snapshot's format in the upper part, its checksum in the lower 32 bits: states that two releases write in different formats cannot
 * be compared.
 */
export function stateDigest(machine: Machine, crc32: (bytes: Uint8Array) => number): number {
  const bytes = machine.snapshot();
  return (bytes[0] ?? 0) * 2 ** 32 + crc32(bytes);
}

/** By how much `to` is larger than `from`, for `adopt`. */
export function distance(from: SavedDigest, to: SavedDigest): SavedDigest {
  return { origin: to.origin, a: (to.a - from.a) >>> 0, b: (to.b - from.b) >>> 0 };
}

export function isSame(one: Finding, other: Finding): boolean {
  return one.a === other.a && one.b === other.b && one.state === other.state;
}

/** Not only not the same: one of them must be wrong. */
export function contradicts(one: Finding, other: Finding): boolean {
  if (one.a !== other.a || one.b !== other.b) return true;
  return one.state !== other.state && Math.floor(one.state / 2 ** 32) === Math.floor(other.state / 2 ** 32);
}

export function describe({ a, b, state }: Finding): string {
  const hex = (value: number): string => value.toString(16).padStart(8, "0");
  return `${hex(a)}${hex(b)}${state === 0 ? "" : `, state ${hex(state % 2 ** 32)}`}`;
}
