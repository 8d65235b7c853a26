import fc from "fast-check";
import { expect, test } from "vitest";
import { RaftLog } from "../../src/raft/log.ts";
import type { Entry } from "../../src/raft/types.ts";
import { newEntries } from "../support/raft-network.ts";

/** What the log should be: a plain list with, for each entry, the write that carried it last. */
class Model {
  base = { index: 0, term: 0 };
  entries: { term: number; write: number }[] = [];
  written = 0;

  get last(): number {
    return this.base.index + this.entries.length;
  }

  termAt(index: number): number {
    if (index === this.base.index) return this.base.term;
    return this.entries[index - this.base.index - 1]?.term ?? -1;
  }

  /** Entries are stable up to the first one that is in no finished write. */
  get stable(): number {
    const at = this.entries.findIndex(({ write }) => write > this.written);
    return at < 0 ? this.last : this.base.index + at;
  }
}

type Action =
  | { readonly kind: "append"; readonly back: number; readonly count: number; readonly newTerm: boolean }
  | { readonly kind: "take" | "finish" }
  | { readonly kind: "compact"; readonly share: number }
  | { readonly kind: "restore"; readonly ahead: number };

const actions = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("append" as const),
        back: fc.nat({ max: 4 }),
        count: fc.integer({ min: 1, max: 5 }),
        newTerm: fc.boolean(),
      }),
    },
    { weight: 4, arbitrary: fc.constant({ kind: "take" as const }) },
    { weight: 4, arbitrary: fc.constant({ kind: "finish" as const }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("compact" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("restore" as const), ahead: fc.integer({ min: 1, max: 5 }) }) },
  ),
  { maxLength: 60 },
);

test("log: terms, durability and what is still to be written agree with a plain list", () => {
  fc.assert(
    fc.property(actions, (list) => {
      const log = new RaftLog({ index: 0, term: 0 }, [], 0);
      const model = new Model();
      let term = 1;
      let sequence = 0;
      for (const action of list) {
        [term, sequence] = perform(log, model, action, term, sequence);
        compare(log, model);
      }
    }),
    { numRuns: 500 },
  );
});

function perform(log: RaftLog, model: Model, action: Action, term: number, sequence: number): [number, number] {
  switch (action.kind) {
    case "append": {
      // As in life: a suffix is replaced only by entries of a later term, never what was cut.
      const back = Math.min(action.back, model.entries.length);
      const next = back > 0 || action.newTerm ? term + 1 : term;
      const first = model.last - back + 1;
      log.append(newEntries(first, ...Array.from({ length: action.count }, () => next)));
      model.entries.length -= back;
      for (let i = 0; i < action.count; i++) model.entries.push({ term: next, write: Number.POSITIVE_INFINITY });
      return [next, sequence];
    }
    case "take": {
      const fresh = model.entries
        .map((entry, at) => ({ entry, index: model.base.index + at + 1 }))
        .filter(({ entry }) => entry.write === Number.POSITIVE_INFINITY);
      expect(log.hasUnsent).toBe(fresh.length > 0);
      const taken: readonly Entry[] = log.takeUnsent(sequence + 1);
      expect(taken.map((entry) => [entry.index, entry.term])).toEqual(fresh.map(({ entry, index }) => [index, entry.term]));
      for (const { entry } of fresh) entry.write = sequence + 1;
      return [term, sequence + 1];
    }
    case "finish":
      model.written = Math.min(model.written + 1, sequence);
      log.persisted(model.written);
      return [term, sequence];
    case "compact": {
      const index = model.base.index + Math.floor((model.stable - model.base.index) * action.share);
      const at = model.termAt(index);
      log.compact(index, at);
      model.entries = model.entries.slice(index - model.base.index);
      model.base = { index, term: at };
      return [term, sequence];
    }
    case "restore": {
      const base = { index: model.last + action.ahead, term };
      log.restore({ ...base, configuration: { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false } });
      model.base = base;
      model.entries = [];
      return [term, sequence];
    }
    default:
      return action;
  }
}

function compare(log: RaftLog, model: Model): void {
  expect([log.firstIndex, log.lastIndex, log.lastTerm, log.stableTo]).toEqual([
    model.base.index + 1,
    model.last,
    model.termAt(model.last),
    model.stable,
  ]);
  for (let index = model.base.index - 1; index <= model.last + 1; index++) {
    expect(log.termAt(index), `term of ${index}`).toBe(index < model.base.index ? -1 : model.termAt(index));
    for (const term of [model.termAt(index) - 1, model.termAt(index)]) {
      let fits = Math.min(index, model.last);
      while (fits > model.base.index && model.termAt(fits) > term) fits -= 1;
      const expected = fits === model.base.index && model.base.term <= term ? fits : fits > model.base.index ? fits : 0;
      expect(log.lastIndexOfTerm(index, term), `last index up to ${index} of term ${term}`).toBe(expected);
    }
  }
}

test("log: gaps, falling terms and cuts of what is not durable are bugs", () => {
  const log = new RaftLog({ index: 3, term: 2 }, [{ term: 2, firstIndex: 4 }], 5);
  expect(() => log.append(newEntries(7, 2))).toThrow("without a gap");
  expect(() => log.append(newEntries(3, 2))).toThrow("without a gap");
  expect(() => log.append(newEntries(6, 1))).toThrow("never fall");
  log.append(newEntries(6, 2));
  expect(() => log.compact(6, 2)).toThrow("only durable");
  expect(() => new RaftLog({ index: 3, term: 2 }, [{ term: 2, firstIndex: 5 }], 5)).toThrow("after the cut");
});
