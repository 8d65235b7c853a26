// How a work subscription treats its messages. Part of the replicated state: what is decided by it is decided on every replica alike.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";

export const BACK_OFF_FIXED = 0;
export const BACK_OFF_LINEAR = 1;
export const BACK_OFF_EXPONENTIAL = 2;
export type BackOff = typeof BACK_OFF_FIXED | typeof BACK_OFF_LINEAR | typeof BACK_OFF_EXPONENTIAL;

/** What happens when there is no room: the oldest of the lowest priority goes, or what comes is refused. */
export const OVERFLOW_DROP_HEAD = 0;
export const OVERFLOW_REJECT = 1;
export type Overflow = typeof OVERFLOW_DROP_HEAD | typeof OVERFLOW_REJECT;

export type WorkConfig = {
  /** Deliveries of one message after which it is dead; 0 = any number. */
  readonly deliveryLimit: number;
  /** How long a message waits that came back: the base, times the deliveries, or times 2 for each beyond the first; in milliseconds. */
  readonly backOff: BackOff;
  readonly backOffMs: number;
  readonly backOffMaxMs: number;
  /** One consumer at a time has all of it; when it goes another takes over. */
  readonly singleActive: boolean;
  /** Messages of one key one at a time, in order. */
  readonly keyOrder: boolean;
  /** Dead messages are kept until they are somewhere else; without it they are gone, but those that came to the delivery limit. */
  readonly deadLetters: boolean;
  /** The longest that a message may wait from when it was stored or is due, in milliseconds; 0 = for ever. */
  readonly ttlMs: number;
  /** Messages that wait at most, and bytes of all that are not settled; 0 = any number. */
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly overflow: Overflow;
};

/** Of a queue until somebody says otherwise. */
export const WORK_DEFAULTS: WorkConfig = {
  deliveryLimit: 20,
  backOff: BACK_OFF_FIXED,
  backOffMs: 0,
  backOffMaxMs: 0,
  singleActive: false,
  keyOrder: true,
  deadLetters: false,
  ttlMs: 0,
  maxMessages: 0,
  maxBytes: 0,
  overflow: OVERFLOW_DROP_HEAD,
};

export function sameWorkConfig(a: WorkConfig, b: WorkConfig): boolean {
  return (Object.keys(WORK_DEFAULTS) as (keyof WorkConfig)[]).every((key) => a[key] === b[key]);
}

/** How long a message waits that comes back after so many deliveries, in milliseconds. */
export function backOffAfter(deliveries: number, { backOff, backOffMs, backOffMaxMs }: WorkConfig): number {
  if (backOffMs === 0) return 0;
  let waitMs = backOffMs;
  if (backOff === BACK_OFF_LINEAR) waitMs = backOffMs * deliveries;
  // From 2^53 on it is beyond every bound.
  else if (backOff === BACK_OFF_EXPONENTIAL) waitMs = backOffMs * 2 ** Math.min(deliveries - 1, 52);
  return Math.min(waitMs, backOffMaxMs);
}

export function writeWorkConfig(writer: ByteWriter, config: WorkConfig): void {
  writer.varint(config.deliveryLimit).u8(config.backOff).varint(config.backOffMs).varint(config.backOffMaxMs);
  writer.u8((config.singleActive ? 1 : 0) + (config.keyOrder ? 2 : 0) + (config.deadLetters ? 4 : 0));
  writer.varint(config.ttlMs).varint(config.maxMessages).varint(config.maxBytes).u8(config.overflow);
}

export function readWorkConfig(reader: ByteReader): WorkConfig {
  const deliveryLimit = reader.varint();
  const backOff = reader.u8();
  if (backOff > BACK_OFF_EXPONENTIAL) throw new DecodeError(`back-off ${backOff}`);
  const [backOffMs, backOffMaxMs] = [reader.varint(), reader.varint()];
  const flags = reader.u8();
  if (flags > 7) throw new DecodeError(`flags ${flags} of a work subscription`);
  const [ttlMs, maxMessages, maxBytes, overflow] = [reader.varint(), reader.varint(), reader.varint(), reader.u8()];
  if (overflow > OVERFLOW_REJECT) throw new DecodeError(`overflow ${overflow}`);
  return {
    deliveryLimit,
    backOff: backOff as BackOff,
    backOffMs,
    backOffMaxMs,
    singleActive: (flags & 1) !== 0,
    keyOrder: (flags & 2) !== 0,
    deadLetters: (flags & 4) !== 0,
    ttlMs,
    maxMessages,
    maxBytes,
    overflow: overflow as Overflow,
  };
}
