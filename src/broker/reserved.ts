// Names of what the broker keeps for itself among queues and topics.

import { BrokerError } from "../base/errors.ts";

const RESERVED_PREFIX = "flotilla.";
/** Of each vhost in which transactions are used: their records (transactions/book.ts). */
export const TRANSACTIONS_QUEUE = `${RESERVED_PREFIX}transactions`;

export function isReserved(name: string): boolean {
  return name.startsWith(RESERVED_PREFIX);
}

/** Throws INVALID_NAME: nobody else declares, publishes to, consumes or deletes it. */
export function checkNotReserved(name: string): void {
  if (isReserved(name)) throw reservedName(name);
}

export function reservedName(name: string): BrokerError {
  return new BrokerError("INVALID_NAME", `${name.slice(0, 64)}: names that begin with "${RESERVED_PREFIX}" are the broker's own`);
}
