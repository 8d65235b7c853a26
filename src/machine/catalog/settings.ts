// How a queue, or a work subscription of a topic, treats its messages, as it is declared: what was not said comes from policies, and
// what they do not say either is the default.

import {
  BACK_OFF_EXPONENTIAL,
  BACK_OFF_FIXED,
  BACK_OFF_LINEAR,
  OVERFLOW_DROP_HEAD,
  OVERFLOW_REJECT,
  WORK_DEFAULTS,
  type WorkConfig,
} from "../work/config.ts";

export type BackOffName = "fixed" | "linear" | "exponential";
export type OverflowName = "drop-head" | "reject-publish";

export type WorkSettings = {
  /** Deliveries after which a message is dead; 0 = any number. */
  readonly deliveryLimit: number;
  /** How a message waits that comes back: its kind, the base and the most, in milliseconds; 0 = not at all. */
  readonly backOff: BackOffName;
  readonly backOffMs: number;
  readonly backOffMaxMs: number;
  readonly singleActive: boolean;
  /** Messages with one key one at a time, in order. */
  readonly keyOrder: boolean;
  /** Milliseconds that a message may wait; 0 = for ever. */
  readonly ttlMs: number;
  /** Bounds, and what happens beyond them; 0 = none. */
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly overflow: OverflowName;
  /** Dead messages are published to this exchange ("" is the default one), with this key or their own; null = they are not. */
  readonly deadLetterExchange: string | null;
  readonly deadLetterKey: string | null;
  /** Deleted when nobody has used it for so many milliseconds; 0 = never. */
  readonly expiresMs: number;
};
/** What somebody said, and nothing else. */
export type DeclaredSettings = { readonly [Name in keyof WorkSettings]?: WorkSettings[Name] | undefined };

export const SETTINGS_DEFAULTS: WorkSettings = {
  deliveryLimit: WORK_DEFAULTS.deliveryLimit,
  backOff: "fixed",
  backOffMs: 0,
  backOffMaxMs: 0,
  singleActive: false,
  keyOrder: true,
  ttlMs: 0,
  maxMessages: 0,
  maxBytes: 0,
  overflow: "drop-head",
  deadLetterExchange: null,
  deadLetterKey: null,
  expiresMs: 0,
};
export const SETTING_NAMES = Object.keys(SETTINGS_DEFAULTS) as (keyof WorkSettings)[];

const BACK_OFFS = { fixed: BACK_OFF_FIXED, linear: BACK_OFF_LINEAR, exponential: BACK_OFF_EXPONENTIAL } as const;
const OVERFLOWS = { "drop-head": OVERFLOW_DROP_HEAD, "reject-publish": OVERFLOW_REJECT } as const;
/** A wait that grows without a bound of its own ends here: an hour. */
const BACK_OFF_MS_MAX = 3_600_000;

/** In one order, without what was not said: equal declarations are equal texts. */
export function declared(settings: DeclaredSettings): DeclaredSettings {
  return Object.fromEntries(SETTING_NAMES.flatMap((name) => (settings[name] === undefined ? [] : [[name, settings[name]]])));
}

/** With the changes, and without what is reset. */
export function changedSettings(
  before: DeclaredSettings,
  changes: DeclaredSettings,
  reset: readonly (keyof WorkSettings)[],
): DeclaredSettings {
  const kept = Object.fromEntries(Object.entries(before).filter(([name]) => !reset.includes(name as keyof WorkSettings)));
  return declared({ ...kept, ...declared(changes) });
}

export function sameDeclared(a: DeclaredSettings, b: DeclaredSettings): boolean {
  return SETTING_NAMES.every((name) => a[name] === b[name]);
}

/** Which settings differ, as text: what each is, and what it was to be. */
export function differences(known: DeclaredSettings, wanted: DeclaredSettings): string[] {
  const text = (value: unknown): string => (value === undefined ? "unset" : JSON.stringify(value));
  return SETTING_NAMES.filter((name) => known[name] !== wanted[name]).map(
    (name) => `${name} is ${text(known[name])}, not ${text(wanted[name])}`,
  );
}

/** What is in force: each layer says what those before it did not. */
export function effective(...layers: readonly DeclaredSettings[]): WorkSettings {
  const settings: Record<string, unknown> = { ...SETTINGS_DEFAULTS };
  for (const layer of [...layers].reverse()) Object.assign(settings, declared(layer));
  return settings as WorkSettings;
}

/** What of it is part of the stream's own state. */
export function workConfigOf(settings: WorkSettings): WorkConfig {
  const { deliveryLimit, backOffMs, singleActive, keyOrder, ttlMs, maxMessages, maxBytes } = settings;
  return {
    deliveryLimit,
    backOff: BACK_OFFS[settings.backOff],
    backOffMs,
    backOffMaxMs: settings.backOffMaxMs === 0 ? Math.max(backOffMs, BACK_OFF_MS_MAX) : settings.backOffMaxMs,
    singleActive,
    keyOrder,
    deadLetters: settings.deadLetterExchange !== null,
    ttlMs,
    maxMessages,
    maxBytes,
    overflow: OVERFLOWS[settings.overflow],
  };
}
