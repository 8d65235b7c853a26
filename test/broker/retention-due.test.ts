// When retention is due by its schedule, whoever asks, however often.

import { expect, test } from "vitest";
import { RETENTION_LATE_MS_MAX } from "../../src/base/limits.ts";
import { RetentionDue } from "../../src/broker/retention-due.ts";

const HOUR_MS = 3_600_000;
const at = (text: string): number => Date.parse(text);
const DAILY = { cron: "0 4 * * *", timeZone: "" };
const DUE = at("2026-05-02T04:00:00Z");

test("retention: it is due from its time on until it is done, and then not before the next time", () => {
  const due = new RetentionDue();
  expect(due.dueMs(DAILY, 0, DUE - 1)).toBe(0);
  expect(due.dueMs(DAILY, 0, DUE)).toBe(DUE);
  expect(due.dueMs(DAILY, 0, DUE + HOUR_MS)).toBe(DUE);
  expect(due.dueMs(DAILY, DUE, DUE + HOUR_MS)).toBe(0);
  expect(due.dueMs(DAILY, DUE, DUE + 24 * HOUR_MS)).toBe(DUE + 24 * HOUR_MS);
});

test("retention: a new leader makes up for what was missed, no longer than it is worth, and not from before it was configured", () => {
  const late = DUE + RETENTION_LATE_MS_MAX;
  const due = new RetentionDue();
  expect(due.dueMs(DAILY, 0, late - 1)).toBe(DUE);
  expect(due.dueMs(DAILY, 0, late)).toBe(0);
  expect(new RetentionDue().dueMs(DAILY, 0, late)).toBe(0);
  expect(new RetentionDue().dueMs(DAILY, DUE + 1, late - 1)).toBe(0);
});

test("retention: what is remembered of a schedule says the same as looking it up, whatever the clock does", () => {
  const kept = new RetentionDue();
  const specs = [
    DAILY,
    { cron: "*/7 * * * * *", timeZone: "" },
    { cron: "30 2 * * *", timeZone: "Europe/Berlin" },
    { cron: "x", timeZone: "" },
  ];
  let nowMs = at("2026-03-28T20:00:00Z");
  for (const step of [1, 5_000, HOUR_MS, 7, -2 * HOUR_MS, 3 * HOUR_MS, 60_000, 6 * HOUR_MS, -1, 24 * HOUR_MS, -30 * HOUR_MS, 10]) {
    nowMs += step;
    kept.round();
    for (const spec of specs) {
      const fresh = new RetentionDue().dueMs(spec, 0, nowMs);
      expect(kept.dueMs(spec, 0, nowMs), `${spec.cron} at ${new Date(nowMs).toISOString()}`).toBe(fresh);
    }
  }
  kept.round();
  kept.round();
  expect(kept["before"].size).toBe(0);
});
