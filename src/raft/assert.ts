/** A broken invariant of the core: a bug, never caught. */
export class RaftInvariantError extends Error {
  override readonly name = "RaftInvariantError";
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new RaftInvariantError(message);
}
