// When a schedule is due: cron expressions with a time zone.

import { Cron } from "croner";
import { BrokerError } from "../base/errors.ts";
import { CRON_LENGTH_MAX } from "../base/limits.ts";

export type CronSpec = { readonly cron: string; readonly timeZone: string };
/** How whoever is told of a fault calls the two. */
type FieldNames = { readonly cron: string; readonly timeZone: string };

const OF_SCHEDULES: FieldNames = { cron: "schedule.cron", timeZone: "schedule.time_zone" };

/** Throws INVALID_ARGUMENT on what is no expression or no time zone. */
export function checkSpec(spec: CronSpec, fields: FieldNames): void {
  parse(spec, fields);
}

/** The first time after `afterMs`; 0 = never. Throws INVALID_ARGUMENT on what is no expression or no time zone. */
export function nextRun(spec: CronSpec, afterMs: number): number {
  return parse(spec, OF_SCHEDULES).nextRun(new Date(afterMs))?.getTime() ?? 0;
}

/** The last time at or before `atMs`, as far back as `sinceMs`; 0 = there is none. */
export function lastRun(spec: CronSpec, sinceMs: number, atMs: number): number {
  const [last] = parse(spec, OF_SCHEDULES).previousRuns(1, new Date(atMs + 1));
  const lastMs = last?.getTime() ?? 0;
  return lastMs > sinceMs && lastMs <= atMs ? lastMs : 0;
}

/** An expression that a later release took and this one does not know is never due. */
export function safely(timeMs: () => number): number {
  try {
    return timeMs();
  } catch (error) {
    if (error instanceof BrokerError) return 0;
    throw error;
  }
}

function parse({ cron, timeZone }: CronSpec, fields: FieldNames): Cron {
  const fault = (message: string, field: keyof FieldNames): BrokerError =>
    new BrokerError("INVALID_ARGUMENT", message, { field: fields[field] });
  if (cron.length > CRON_LENGTH_MAX) throw fault(`cron must have at most ${CRON_LENGTH_MAX} characters`, "cron");
  if (timeZone.length > CRON_LENGTH_MAX) throw fault(`time_zone must have at most ${CRON_LENGTH_MAX} characters`, "timeZone");
  const zone = timeZone === "" ? "UTC" : timeZone;
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
  } catch {
    throw fault(`time_zone ${JSON.stringify(zone.slice(0, 64))} is none that is known; name one as Europe/Berlin`, "timeZone");
  }
  try {
    return new Cron(cron, { timezone: zone, paused: true });
  } catch (error) {
    throw fault(`cron ${JSON.stringify(cron)} is no expression of five or six fields: ${(error as Error).message}`, "cron");
  }
}
