// The names of settings as people write them in requests and definitions.

import { BrokerError } from "../../base/errors.ts";
import type { WorkSettings } from "./types.ts";

export const SETTING_FIELDS: Readonly<Record<keyof WorkSettings, string>> = {
  deliveryLimit: "delivery_limit",
  backOff: "back_off",
  backOffMs: "back_off_ms",
  backOffMaxMs: "back_off_max_ms",
  singleActive: "single_active",
  keyOrder: "key_order",
  ttlMs: "ttl_ms",
  maxMessages: "max_messages",
  maxBytes: "max_bytes",
  overflow: "overflow",
  deadLetterExchange: "dead_letter_exchange",
  deadLetterKey: "dead_letter_key",
  expiresMs: "expires_ms",
};

/** Throws INVALID_ARGUMENT on a name that is none. */
export function settingOfField(field: string): keyof WorkSettings {
  for (const [name, known] of Object.entries(SETTING_FIELDS)) if (known === field) return name as keyof WorkSettings;
  throw new BrokerError(
    "INVALID_ARGUMENT",
    `there is no setting ${JSON.stringify(field.slice(0, 64))}; there are ${Object.values(SETTING_FIELDS).join(", ")}`,
    {
      field: "reset",
    },
  );
}
