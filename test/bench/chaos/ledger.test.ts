// Each checker of the chaos harness with a history that it must fail, and one that it must pass.

import { expect, test } from "vitest";
import { CommitLedger } from "../../../bench/chaos/commit-ledger.ts";
import { Content } from "../../../bench/chaos/content.ts";
import { Ledger } from "../../../bench/chaos/ledger.ts";
import { ReadSession } from "../../../bench/chaos/read-session.ts";
import { compareReplicas, Sweep, type SweptRecord } from "../../../bench/chaos/sweep.ts";
import { Verdict } from "../../../bench/chaos/verdict.ts";

const PARTITIONS = 2;
const content = new Content(7, PARTITIONS, 3, { bytesMin: 20, bytesMax: 90 });

class Story {
  readonly verdict = new Verdict();
  readonly ledger = new Ledger(PARTITIONS, content, this.verdict);
  readonly lane = this.ledger.openLane(0, 0);

  /** Sends so many records, of which the first ones are acknowledged where they belong. */
  sent(count: number, acked = count, lane = this.lane, at = 0): this {
    for (let number = 0; number < count; number++) this.ledger.sending(lane);
    for (let number = 0; number < acked; number++) this.ledger.acknowledged({ lane, number }, 0, at + number);
    return this;
  }

  record(offset: number, number = offset, lane = this.lane): SweptRecord {
    const id = { lane, number };
    return { offset, key: Buffer.from(content.key(0, id)), body: Buffer.from(content.body(id)) };
  }

  sweep(records: readonly SweptRecord[], end = records.length, who = "node 1"): Sweep {
    const sweep = new Sweep(this.ledger, this.verdict, 0, who);
    for (const record of records) sweep.record(record);
    sweep.finish(end);
    return sweep;
  }

  get found(): string[] {
    return this.verdict.findings().map(({ invariant, count }) => `${invariant} ${count}`);
  }
}

test("a right history passes, with records whose outcome is unknown", () => {
  const story = new Story().sent(5, 3);
  story.sweep([0, 1, 2, 3].map((offset) => story.record(offset)));
  const other = new Story().sent(5, 3);
  other.sweep([0, 1, 2].map((offset) => other.record(offset)));
  expect([...story.found, ...other.found]).toEqual([]);
});

test("L0: an acknowledged record that is nowhere", () => {
  const story = new Story().sent(3);
  story.sweep([0, 1].map((offset) => story.record(offset)));
  expect(story.found).toEqual(["L0 1"]);
});

test("L1: a record that nobody sent, one of another load, and one that was altered", () => {
  const story = new Story().sent(2);
  story.sweep([story.record(0), story.record(1), story.record(2)]);
  expect(story.found).toEqual(["L1 1"]);
  const strange = new Story().sent(1);
  strange.sweep([strange.record(0), { offset: 1, key: null, body: Buffer.alloc(40, 1) }]);
  expect(strange.found).toEqual(["L1 1"]);
  const altered = new Story().sent(2);
  const record = altered.record(1);
  record.body[record.body.length - 1]! ^= 1;
  altered.sweep([altered.record(0), record]);
  expect(altered.found).toEqual(["L1 1", "L0 1"]);
  const renamed = new Story().sent(1, 0);
  renamed.sweep([{ ...renamed.record(0), key: Buffer.from("other") }]);
  expect(renamed.found).toEqual(["L1 1"]);
});

test("L2: the same record at two offsets", () => {
  const story = new Story().sent(2);
  story.sweep([story.record(0), story.record(1), story.record(2, 1)]);
  expect(story.found).toEqual(["L2 1"]);
});

test("L3: a lane out of its order, in the log and in acknowledgements", () => {
  const story = new Story().sent(2, 0);
  story.sweep([story.record(0, 1), story.record(1, 0)]);
  expect(story.found).toEqual(["L3 1"]);
  const acks = new Story().sent(2, 0);
  acks.ledger.acknowledged({ lane: 0, number: 0 }, 0, 5);
  acks.ledger.acknowledged({ lane: 0, number: 1 }, 0, 3);
  expect(acks.found).toEqual(["L3 1"]);
});

test("L4: a gap, another record at an offset, an end that reading does not reach, replicas that differ", () => {
  const gap = new Story().sent(3, 1);
  gap.sweep([gap.record(0), gap.record(2)]);
  expect(gap.found).toEqual(["L4 1"]);
  const other = new Story().sent(1);
  const lane = other.ledger.openLane(1, 0);
  other.sent(1, 0, lane);
  other.sweep([other.record(0, 0, lane)]);
  expect(other.found).toEqual(["L4 1", "L0 1"]);
  const short = new Story().sent(1);
  short.sweep([short.record(0)], 2);
  expect(short.found).toEqual(["L4 1"]);
  const replicas = new Story().sent(2, 1);
  const first = replicas.sweep([replicas.record(0), replicas.record(1)]);
  const second = replicas.sweep([replicas.record(0)], 1, "node 2");
  compareReplicas(replicas.verdict, 0, [
    { who: "node 1", sweep: first },
    { who: "node 2", sweep: second },
  ]);
  expect(replicas.found).toEqual(["L4 1"]);
});

test("L4: a record that was acknowledged at another offset than it stands", () => {
  const story = new Story().sent(1, 0);
  story.ledger.acknowledged({ lane: 0, number: 0 }, 0, 7);
  story.sweep([story.record(0)]);
  expect(story.found).toEqual(["L2 1"]);
});

function session(story: Story): ReadSession {
  return new ReadSession(story.ledger, story.verdict, 0, "a reader");
}

test("L5: a reader that skips, that goes back, that is denied what it was told", () => {
  const story = new Story().sent(4);
  const reader = session(story);
  const batch = (baseOffset: number, count: number) => ({
    baseOffset,
    records: Array.from({ length: count }, (_, at) => story.record(baseOffset + at)),
  });
  reader.fetched({ batches: [batch(0, 2)], endOffset: 4, nextOffset: 2 });
  expect(story.found).toEqual([]);
  reader.fetched({ batches: [batch(3, 1)], endOffset: 4, nextOffset: 4 });
  expect(story.found).toEqual(["L5 1"]);
  reader.fetched({ batches: [batch(0, 2)], endOffset: 4, nextOffset: 2 });
  expect(story.found).toEqual(["L5 2"]);
  reader.denied("out of range");
  expect(story.found).toEqual(["L5 3"]);
});

test("L6: an end below what was told before the question, and one below what the same reader has read", () => {
  const story = new Story().sent(3);
  story.ledger.endSeen(0, 3, 3);
  expect(story.found).toEqual([]);
  story.ledger.endSeen(0, 2, story.ledger.endKnown(0));
  expect(story.found).toEqual(["L6 1"]);
  const reader = session(story);
  reader.fetched({ batches: [{ baseOffset: 0, records: [story.record(0), story.record(1)] }], endOffset: 2, nextOffset: 2 });
  reader.fetched({ batches: [], endOffset: 1, nextOffset: 2 });
  expect(story.found).toEqual(["L6 2"]);
});

test("L7: a committed offset that goes back, and one that nobody asked for", () => {
  const verdict = new Verdict();
  const commits = new CommitLedger(1, verdict);
  commits.seen(0, 0, 0);
  commits.committing(0, 5);
  commits.committed(0, 5);
  commits.committing(0, 8);
  commits.seen(0, 8, commits.confirmed(0));
  expect(verdict.violations).toBe(0);
  commits.seen(0, 4, commits.confirmed(0));
  commits.seen(0, 9, commits.confirmed(0));
  expect(verdict.findings()).toMatchObject([{ invariant: "L7", count: 2 }]);
});

test("findings are counted beyond those that are kept", () => {
  const verdict = new Verdict();
  for (let at = 0; at < 100; at++) verdict.report("L0", `record ${at}`);
  expect(verdict.violations).toBe(100);
  expect(verdict.findings()[0]!.texts).toHaveLength(20);
});
