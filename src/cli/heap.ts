// How V8 collects garbage in our own processes. The client library leaves that to its host.

import { setFlagsFromString } from "node:v8";

/**
 * Message bytes live outside V8's heap but count towards its next full collection: by default that comes after some 20 MB
 * of them, many times a second under load, and marks everything anew. Ours is a small heap of long-lived objects, so let
 * it grow to eleven times its live size first; `--max-old-space-size` stays the limit.
 */
export function letHeapGrow(): void {
  setFlagsFromString("--heap-growing-percent=1000");
}
