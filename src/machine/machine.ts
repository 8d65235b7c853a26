// The contract between a replicated state machine and its host. A machine is synchronous and deterministic: the same
// entries in the same order give the same state, byte for byte, on every replica, after a restart and after a restore.

/** Where an entry stands. `timeMs` is the group's clock: the largest leader stamp so far, so it never goes back. */
export type ApplyMeta = { index: number; term: number; timeMs: number };

/** Messages of the offsets `from` to before `end`. */
export type Revocation = {
  readonly consumer: number;
  /** Where the consumer is connected: what `gatewayOf` gives. */
  readonly gateway: number;
  readonly from: number;
  readonly end: number;
};
export type Delivery = Revocation & {
  readonly token: number;
  readonly deadlineMs: number;
  readonly deliveries: number;
};

/** What applying an entry asks of the host. Filled during `apply`, run after it; lost effects must do no harm. */
export interface Effects {
  /**
   * Answers whoever proposed this entry, if that was this node. `detail` is owned by the callee. `code` and `value` are as
   * deterministic as the state: replicas compare them.
   */
  reply(code: number, value: number, detail: Uint8Array | null): void;
  /** New records can be read up to here (exclusive offset). Every replica. */
  advanced(endOffset: number): void;
  /** Nothing at or below this log index is needed any more (trim). Every replica. */
  releaseTo(index: number): void;
  /** The machine's description of the world changed (catalog). Every replica. */
  changed(): void;
  /**
   * Messages of a work subscription ("": of a queue) went to a consumer, under this token until the deadline; `deliveries` counts this
   * one. The leader sends them; when that is lost, the leases in the state say the same.
   */
  delivered(subscription: string, delivery: Delivery): void;
  /** A consumer's lease ended by itself. For the leader. */
  revoked(subscription: string, revocation: Revocation): void;
  /** When something is due by itself; -1 = nothing is. The leader then has an entry written: time is in it. */
  due(atMs: number): void;
}

export interface Machine {
  /** The version of the rules in force; a machine begins with the first. */
  readonly version: number;
  /** The newest version that this release knows. */
  readonly newestVersion: number;
  /**
   * Entries from here on are applied by this version, 1..newestVersion: the log says so, or the checkpoint that is about to be
   * restored. Deterministic like `apply`.
   */
  useVersion(version: number): void;
  /**
   * `kind` is ENTRY_RECORDS (1) or ENTRY_COMMAND (2). Never throws on what a user sent: replies a code. Must not keep
   * `payload`: it is the host's buffer and is reused or released after the call.
   */
  apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void;
  /** The whole state as bytes with a format version in front. Equal states give equal bytes. */
  snapshot(): Uint8Array;
  /** Replaces the state. Throws DecodeError on bytes that are damaged or newer than known. */
  restore(snapshot: Uint8Array): void;
}
