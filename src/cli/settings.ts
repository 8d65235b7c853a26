// Options that say how a queue, or a work subscription, treats its messages.

import { type Command, InvalidArgumentError, Option } from "commander";
import type { BackOff, Overflow, WorkSettings } from "../client/index.ts";
import { duration, size, whole } from "./session.ts";

export type SettingsOptions = {
  deliveryLimit?: number;
  backOff?: { kind: BackOff; ms: number; maxMs: number };
  singleActive?: boolean;
  keyOrder?: boolean;
  ttl?: number;
  maxMessages?: number;
  maxBytes?: number;
  overflow?: Overflow;
  deadLetterExchange?: string;
  deadLetterQueue?: string;
  deadLetterKey?: string;
  expires?: number;
};

export function withSettings(command: Command, { isQueue }: { isQueue: boolean }): Command {
  command
    .option("--delivery-limit <n>", "deliveries after which a message is dead (default 20; 0 = any number)", whole(0, 1_000_000))
    .option("--back-off <kind:time[:most]>", "how a message waits that comes back: fixed:1s, linear:1s:1m, exponential:100ms:10m", backOff)
    .option("--single-active", "one consumer at a time has everything")
    .option("--no-key-order", "messages of one key may be worked on side by side")
    .option("--ttl <duration>", "how long a message may wait (0 = for ever)", duration)
    .option("--max-messages <n>", "messages that may wait (0 = any number)", whole(0, Number.MAX_SAFE_INTEGER))
    .option("--max-bytes <size>", "bytes that may be held (0 = any number)", size)
    .addOption(
      new Option("--overflow <what>", "what happens beyond the bounds: the oldest goes, or what comes is refused").choices([
        "drop-head",
        "reject-publish",
      ]),
    )
    .option("--dead-letter-queue <name>", "where dead messages go: a queue")
    .option("--dead-letter-exchange <name>", "where dead messages go: an exchange")
    .option("--dead-letter-key <key>", "with which routing key (default: their own)");
  if (isQueue) command.option("--expires <duration>", "delete the queue when nobody has used it for so long", duration);
  return command;
}

export function settingsFrom(options: SettingsOptions): Partial<WorkSettings> {
  const { backOff: waits, ttl, expires, deadLetterQueue, deadLetterExchange, deadLetterKey, keyOrder } = options;
  if (deadLetterQueue !== undefined && (deadLetterExchange !== undefined || deadLetterKey !== undefined))
    throw new InvalidArgumentError("--dead-letter-queue stands alone: it is the default exchange with the queue's name as key");
  const settings: Record<string, unknown> = {};
  for (const name of ["deliveryLimit", "singleActive", "maxMessages", "maxBytes", "overflow"] as const)
    if (options[name] !== undefined) settings[name] = options[name];
  if (keyOrder === false) settings["keyOrder"] = false;
  if (waits !== undefined) Object.assign(settings, { backOff: waits.kind, backOffMs: waits.ms, backOffMaxMs: waits.maxMs });
  if (ttl !== undefined) settings["ttlMs"] = ttl;
  if (expires !== undefined) settings["expiresMs"] = expires;
  if (deadLetterQueue !== undefined) Object.assign(settings, { deadLetterExchange: "", deadLetterKey: deadLetterQueue });
  if (deadLetterExchange !== undefined) settings["deadLetterExchange"] = deadLetterExchange;
  if (deadLetterKey !== undefined) settings["deadLetterKey"] = deadLetterKey;
  return settings as Partial<WorkSettings>;
}

/** What an update changes; there must be something. */
export function changesFrom(options: SettingsOptions & { reset?: string }): {
  settings: Partial<WorkSettings>;
  reset: (keyof WorkSettings)[];
} {
  const settings = settingsFrom(options);
  const reset = (options.reset?.split(",") ?? []) as (keyof WorkSettings)[];
  if (Object.keys(settings).length === 0 && reset.length === 0)
    throw new InvalidArgumentError("nothing to change: name a setting, or one to --reset");
  return { settings, reset };
}

/** A row for each setting in force; `declared` marks those that were said of this queue or subscription itself. */
export function settingRows({
  settings,
  declared,
}: {
  settings: Partial<WorkSettings>;
  declared: Partial<WorkSettings>;
}): Record<string, unknown>[] {
  return Object.entries(settings).map(([setting, value]) => ({ setting, value, declared: Object.hasOwn(declared, setting) ? "yes" : "" }));
}

function backOff(text: string): { kind: BackOff; ms: number; maxMs: number } {
  const [kind = "", time = "", most = "0", ...rest] = text.split(":");
  if (!["fixed", "linear", "exponential"].includes(kind) || time === "" || rest.length > 0)
    throw new InvalidArgumentError("must be as fixed:1s, linear:1s:1m or exponential:100ms:10m");
  return { kind: kind as BackOff, ms: duration(time), maxMs: duration(most) };
}
