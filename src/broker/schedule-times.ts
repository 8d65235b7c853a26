// When a schedule is due: cron expressions with a time zone.

import { Cron } from "croner";
import { BrokerError } from "../base/errors.ts";
import { CRON_LENGTH_MAX } from "../base/limits.ts";

export type CronSpec = { readonly cron: string; readonly timeZone: string };

/** The first time after `afterMs`; 0 = never. Throws INVALID_ARGUMENT on what is no expression or no time zone. */
export function nextRun(spec: CronSpec, afterMs: number): number {
  return parse(spec).nextRun(new Date(afterMs))?.getTime() ?? 0;
}

/** The last time at or before `atMs`, as far back as `sinceMs`; 0 = there is none. */
export function lastRun(spec: CronSpec, sinceMs: number, atMs: number): number {
  const [last] = parse(spec).previousRuns(1, new Date(atMs + 1));
  const lastMs = last?.getTime() ?? 0;
  return lastMs > sinceMs && lastMs <= atMs ? lastMs : 0;
}

function parse({ cron, timeZone }: CronSpec): Cron {
  const fault = (message: string, field: string): BrokerError =>
    new BrokerError("INVALID_ARGUMENT", message, { field: `schedule.${field}` });
  if (cron.length > CRON_LENGTH_MAX) throw fault(`cron must have at most ${CRON_LENGTH_MAX} characters`, "cron");
  const zone = timeZone === "" ? "UTC" : timeZone;
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
  } catch {
    throw fault(`time_zone ${JSON.stringify(zone.slice(0, 64))} is none that is known; name one as Europe/Berlin`, "time_zone");
  }
  try {
    return new Cron(cron, { timezone: zone, paused: true });
  } catch (error) {
    throw fault(`cron ${JSON.stringify(cron)} is no expression of five or six fields: ${(error as Error).message}`, "cron");
  }
}
