// Every way in which a file of the log can be damaged, at many places: what is left of each group is what was written, or
// the damage is known. Nothing is ever silently different.

import { cp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { GroupId, ReplicaId } from "../../src/base/ids.ts";
import { LogCorruptError, LogReadError } from "../../src/log/errors.ts";
import type { GroupLogState } from "../../src/log/types.ts";
import { entry, TestLog, text, write } from "../support/log.ts";

const GROUPS = [1, 2, 3];
const SEGMENT_BYTES = 16 * 1024;
const BLOCK_BYTES = 4096;

type Known = { readonly state: GroupLogState; readonly entries: readonly string[] };

/**
 * Three groups over several files. Group 3 writes early, then rests: its only hard state lies in the first file. Ends
 * quiet, as the lane leaves it: with a mark, and a note of how far the log is durable.
 */
async function filled(): Promise<{ log: TestLog; known: Map<number, Known>; older: string }> {
  const log = await TestLog.create(SEGMENT_BYTES);
  for (const group of GROUPS) log.log.begin(group as GroupId, (1024 + group) as ReplicaId, 1, 0);
  for (let index = 2; index <= 90; index++) {
    const groups = index < 8 ? GROUPS : [1, 2];
    await log.append(
      groups.map((group) =>
        write(
          group,
          [entry(index, 1 + (index >> 5), `${group}/${index} ${"x".repeat(400)}`)],
          index % 7 === 0 ? { term: 4, vote: 2, commit: index - 1 } : null,
        ),
      ),
    );
    if (index === 40) log.log.trim(1 as GroupId, 12, 1);
    if (index === 60) await cp(log.directory, `${log.directory}.older`, { recursive: true });
  }
  await log.append([]);
  log.log.noteDurable();
  const known = new Map<number, Known>();
  for (const group of GROUPS) {
    const { replica, hardState, trimmed, termRuns, lastIndex } = log.log.groups().get(group as GroupId)!;
    const state = structuredClone({ replica, hardState, trimmed, termRuns, lastIndex });
    known.set(group, { state, entries: text(await log.readAll(group)) });
  }
  await log.close();
  return { log, known, older: `${log.directory}.older` };
}

/** Opens the log and holds each group against what is known; returns the outcome in a word per group. */
async function outcome(log: TestLog, known: ReadonlyMap<number, Known>): Promise<string[]> {
  try {
    await log.open();
  } catch (error) {
    expect(error).toBeInstanceOf(LogCorruptError);
    return ["refused"];
  }
  const words: string[] = [];
  for (const [group, { state, entries }] of known) {
    if (log.log.damageOf(group as GroupId) !== null) {
      words.push("damaged");
      continue;
    }
    const held = log.log.groups().get(group as GroupId);
    expect(held, `group ${group} is there`).toBeDefined();
    const { replica, hardState, trimmed, termRuns, lastIndex } = held!;
    expect({ replica, hardState, trimmed, termRuns, lastIndex }, `state of group ${group}`).toEqual(state);
    const read = await log.readAll(group).then(text, (error: unknown) => error);
    if (Array.isArray(read)) {
      expect(read, `entries of group ${group}`).toEqual(entries);
      words.push("whole");
    } else {
      expect((read as LogReadError).code).toBe("CORRUPT");
      words.push("unreadable");
    }
  }
  await log.close();
  return words;
}

/** Damages one file after the other, and puts all back after each try. */
async function each(
  parts: { log: TestLog; known: Map<number, Known> },
  damages: (file: string) => Promise<readonly { name: string; run: () => Promise<void> }[]>,
): Promise<Map<string, number>> {
  const { log, known } = parts;
  const good = `${log.directory}.good`;
  await cp(log.directory, good, { recursive: true });
  const counts = new Map<string, number>();
  for (const name of (await readdir(log.files)).sort()) {
    for (const { name: what, run } of await damages(join(log.files, name))) {
      await run();
      const words = await outcome(log, known).catch((error: unknown) => {
        throw new Error(`${name}: ${what}`, { cause: error });
      });
      for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
      await rm(log.directory, { recursive: true });
      await cp(good, log.directory, { recursive: true });
    }
  }
  await rm(good, { recursive: true });
  await rm(`${log.directory}.older`, { recursive: true, force: true });
  await rm(log.directory, { recursive: true });
  return counts;
}

for (const store of ["with the store", "without the store"]) {
  const lose = async (log: TestLog): Promise<void> => {
    if (store === "without the store") await rm(join(log.directory, "store"), { recursive: true });
  };

  test(`log damage, ${store}: bits flipped all over every file`, { timeout: 120_000 }, async () => {
    const parts = await filled();
    const counts = await each(parts, async (file) => {
      const whole = await readFile(file);
      // The first header bytes, then ever further apart; a prime, so that all fields of records are met.
      const places = [
        ...Array.from({ length: 12 }, (_, at) => at * 5),
        ...Array.from({ length: Math.floor(whole.length / 331) }, (_, at) => 64 + at * 331),
      ];
      return places.map((at) => ({
        name: `bit flipped at ${at}`,
        run: async () => {
          await lose(parts.log);
          const damaged = Buffer.from(whole);
          damaged[at]! ^= 1 << (at & 7);
          await writeFile(file, damaged);
        },
      }));
    });
    expect(counts.get("whole")).toBeGreaterThan(100);
    expect((counts.get("unreadable") ?? 0) + (counts.get("damaged") ?? 0)).toBeGreaterThan(20);
  });

  test(`log damage, ${store}: files cut off at many places, and blocks that were never written`, { timeout: 120_000 }, async () => {
    const parts = await filled();
    const counts = await each(parts, async (file) => {
      const whole = await readFile(file);
      const { length } = whole;
      const sizes = Array.from({ length: 12 }, (_, at) => Math.floor((at * length) / 12) + at);
      const blocks = Array.from({ length: Math.ceil(length / BLOCK_BYTES) }, (_, at) => at * BLOCK_BYTES);
      const prepared = (name: string, run: () => Promise<void>): { name: string; run: () => Promise<void> } => ({
        name,
        run: async () => {
          await lose(parts.log);
          await run();
        },
      });
      return [
        ...sizes.map((size) => prepared(`cut at ${size}`, () => truncate(file, size))),
        ...blocks.map((at) =>
          prepared(`nothing at ${at}`, () => writeFile(file, Buffer.from(whole).fill(0, at, Math.min(length, at + BLOCK_BYTES)))),
        ),
      ];
    });
    expect(counts.get("refused")).toBeGreaterThan(10);
    // Without the store nobody knows whose the entries were that are gone.
    if (store === "with the store") expect(counts.get("damaged")).toBeGreaterThan(40);
  });
}

test("log damage: files deleted", { timeout: 60_000 }, async () => {
  const parts = await filled();
  const counts = await each(parts, (file) => Promise.resolve([{ name: "deleted", run: () => rm(file) }]));
  expect(counts.get("damaged")).toBeGreaterThan(2);
  expect(counts.get("whole")).toBeGreaterThan(2);
});

test("log damage: files replaced by older copies of themselves, and by each other", { timeout: 60_000 }, async () => {
  const parts = await filled();
  const names = (await readdir(parts.log.files)).sort();
  const counts = await each(parts, async (file) => {
    const copies = names.map((name) => join(parts.log.files, name)).filter((other) => other !== file);
    const older = join(parts.older, "log", file.slice(parts.log.files.length + 1));
    const isOlder = await readFile(older).then(
      () => true,
      () => false,
    );
    return [
      ...(isOlder ? [{ name: "older copy", run: () => cp(older, file) }] : []),
      ...copies.map((other) => ({ name: `copy of ${other}`, run: () => cp(other, file) })),
    ];
  });
  expect(counts.get("refused") ?? 0).toBeGreaterThan(0);
  expect((counts.get("damaged") ?? 0) + (counts.get("unreadable") ?? 0)).toBeGreaterThan(2);
});
