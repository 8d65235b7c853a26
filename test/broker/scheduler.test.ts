// What is due, and what is remembered of it.

import { expect, test } from "vitest";
import { silentLogger } from "../../src/base/logger.ts";
import { Scheduler, type SchedulerComponents } from "../../src/broker/scheduler.ts";
import { Declarations } from "../../src/machine/catalog/declarations.ts";
import { TestClock } from "../support/test-clock.ts";

const MINUTE_MS = 60_000;

test("scheduler: what is due is published once, and nothing is remembered of a schedule that is gone", () => {
  const declarations = new Declarations();
  const clock = new TestClock();
  clock.nowMs = 1_000;
  const published: { producerId: number; sequence: number }[] = [];
  const publisher = {
    publish: (call: { producerId: number; sequence: number }, done: (error: null, ...rest: unknown[]) => void): void => {
      published.push({ producerId: call.producerId, sequence: call.sequence });
      done(null, -1, -1, 1, false, { copies: 1 });
    },
  };
  const components = { catalog: { declarations }, publisher, clock, logger: silentLogger, leadsCatalog: () => true };
  const scheduler = new Scheduler(components as unknown as SchedulerComponents);
  const row = { vhost: "/", cron: "* * * * *", timeZone: "UTC", exchange: "x", routingKey: "", records: "", isPaused: false };
  for (const [at, name] of ["stays", "goes"].entries()) declarations.setSchedule({ ...row, name, id: at + 1 });
  scheduler.look();
  clock.advance(2 * MINUTE_MS);
  const due = [MINUTE_MS, 2 * MINUTE_MS];
  expect(published.filter(({ producerId }) => producerId === 1).map(({ sequence }) => sequence)).toEqual(due);
  expect(published.filter(({ producerId }) => producerId === 2).map(({ sequence }) => sequence)).toEqual(due);
  declarations.deleteSchedule("/", "goes");
  scheduler.look();
  expect([...scheduler["published"].keys()]).toEqual([1]);
  scheduler.stop();
});
