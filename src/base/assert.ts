/** A broken invariant: a bug of ours. It is never caught; the process exits and restarts from its log. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Stays on in production. `message` is built by the caller, so keep it cheap on hot paths (a constant). */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The default branch of a switch that handles every kind. */
export function unreachable(value: never, what: string): never {
  throw new AssertionError(`unknown ${what}: ${String(value)}`);
}

/** A non-negative integer that a JS number carries exactly (below 2^53). */
export function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
