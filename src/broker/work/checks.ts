// What comes from outside about queues and work subscriptions, held against its bounds.

import { BrokerError } from "../../base/errors.ts";
import { CONSUMER_CREDIT_MAX, DELAY_MS_MAX, LEASE_MS_MAX, ROUTING_KEY_LENGTH_MAX } from "../../base/limits.ts";
import { SETTING_NAMES, type DeclaredSettings } from "../../machine/catalog/settings.ts";
import { checkName } from "../admin.ts";
import type { Settlement, WorkSettings } from "./types.ts";

const LEASE_MS_DEFAULT = 30_000;
const LEASE_MS_MIN = 1_000;

/** Milliseconds; 0 = the default. Throws INVALID_ARGUMENT when it is out of bounds. */
export function leaseOf(leaseMs: number): number {
  if (leaseMs === 0) return LEASE_MS_DEFAULT;
  if (!Number.isInteger(leaseMs) || leaseMs < LEASE_MS_MIN || leaseMs > LEASE_MS_MAX)
    throw new BrokerError("INVALID_ARGUMENT", `lease_ms must be ${LEASE_MS_MIN}..${LEASE_MS_MAX}, not ${leaseMs}`, { field: "lease_ms" });
  return leaseMs;
}

/** What is wrong with a settlement as it came. */
export function faultOf({ count, delayMs, leaseMs, outcome, token }: Settlement): BrokerError | null {
  const fault = (message: string, field: string): BrokerError =>
    new BrokerError("INVALID_ARGUMENT", message, { field: `settlements.${field}` });
  if (!(outcome >= 1 && outcome <= 5)) return fault(`outcome ${String(outcome)} is unknown`, "outcome");
  if (count < 1 || count > CONSUMER_CREDIT_MAX) return fault(`count must be 1..${CONSUMER_CREDIT_MAX}, not ${count}`, "count");
  if (token === 0) return fault("the token of the delivery is missing", "token");
  if (delayMs > DELAY_MS_MAX) return fault(`delay_ms must be 0..${DELAY_MS_MAX} (a year), not ${delayMs}`, "delay_ms");
  if (outcome === 5 && (leaseMs < LEASE_MS_MIN || leaseMs > LEASE_MS_MAX))
    return fault(`lease_ms must be ${LEASE_MS_MIN}..${LEASE_MS_MAX}, not ${leaseMs}`, "lease_ms");
  return null;
}

/** Throws INVALID_ARGUMENT that names the field. */
export function checkSettings(settings: DeclaredSettings, isQueue: boolean): void {
  const bounds: Readonly<Partial<Record<keyof WorkSettings, number>>> = {
    deliveryLimit: 1_000_000,
    backOffMs: DELAY_MS_MAX,
    backOffMaxMs: DELAY_MS_MAX,
    ttlMs: DELAY_MS_MAX,
    maxMessages: Number.MAX_SAFE_INTEGER,
    maxBytes: Number.MAX_SAFE_INTEGER,
    expiresMs: DELAY_MS_MAX,
  };
  for (const name of SETTING_NAMES) {
    const [value, max] = [settings[name], bounds[name]];
    const isBad =
      value !== undefined && max !== undefined && !(Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max);
    if (isBad)
      throw new BrokerError("INVALID_ARGUMENT", `${name} must be a whole number of 0..${max}, not ${String(value)}`, { field: name });
  }
  const { deadLetterExchange = "", deadLetterKey = "" } = settings;
  if (deadLetterExchange !== null && deadLetterExchange !== "") checkName("dead letter exchange", deadLetterExchange);
  if (deadLetterKey !== null && deadLetterKey.length > ROUTING_KEY_LENGTH_MAX)
    throw new BrokerError("INVALID_ARGUMENT", `deadLetterKey must have at most ${ROUTING_KEY_LENGTH_MAX} characters`, {
      field: "deadLetterKey",
    });
  if (!isQueue && settings.expiresMs !== undefined && settings.expiresMs > 0)
    throw new BrokerError("INVALID_ARGUMENT", "expiresMs is a setting of queues: a subscription is deleted with its topic", {
      field: "expiresMs",
    });
}
