// What a stream knows of transactions becomes small again, and forgets nothing that may still come.

import { expect, test } from "vitest";
import type { GroupId } from "../../../src/base/ids.ts";
import { TRANSACTION_MARKS_KEPT } from "../../../src/base/limits.ts";
import { Sweeper, type SweeperComponents } from "../../../src/broker/transactions/sweeper.ts";
import { STATE_PREPARED } from "../../../src/broker/transactions/types.ts";
import { STREAM_DUPLICATE, STREAM_OK } from "../../../src/machine/stream/codes.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import { COMMAND, records } from "../../machine/entries.ts";
import { MachineRun } from "../../machine/machine-run.ts";
import { TestClock } from "../../support/test-clock.ts";

const BOOK = 7;

function bench(unfinished: readonly number[], below: number): { run: MachineRun<StreamMachine>; sweeper: Sweeper; asked: () => number } {
  const run = new MachineRun(new StreamMachine());
  let asked = 0;
  const host = {
    get: () => ({ isLeader: true, descriptor: { kind: "stream" }, machine: run.machine }),
    propose: (_group: number, _kind: number, payload: Uint8Array, done: () => void) => {
      run.apply({ kind: COMMAND, timeMs: 0, payload });
      done();
    },
  };
  const book = {
    ask: ({ group }: { group: number }) => {
      expect(group).toBe(BOOK);
      asked += 1;
      return Promise.resolve({ rows: unfinished.map((offset) => ({ offset, state: STATE_PREPARED, untilMs: 0 })), below, next: -1 });
    },
  };
  const sweeper = new Sweeper({ host, book, clock: new TestClock() } as unknown as SweeperComponents);
  return { run, sweeper, asked: () => asked };
}

const batch = (offset: number): Uint8Array => records(1, { id: BOOK, sequence: offset, isTransaction: true });

test("sweeper: marks that have come apart become one run, but for transactions that are not over", async () => {
  const last = TRANSACTION_MARKS_KEPT * 2;
  const { run, sweeper, asked } = bench([11, 12, 501], last + 1);
  for (let offset = 0; offset < last; offset += 2) expect(run.records(batch(offset)).code).toBe(STREAM_OK);
  sweeper.look(9 as GroupId);
  expect(asked()).toBe(0);
  expect(run.records(batch(last)).code).toBe(STREAM_OK);
  sweeper.look(9 as GroupId);
  sweeper.look(9 as GroupId);
  await Promise.resolve();
  await Promise.resolve();
  await Promise.resolve();
  expect([asked(), run.machine.transactions.runs]).toEqual([1, 3]);
  // 12 had published here before; 13 never will, as it is over.
  expect([11, 12, 13, 501, last + 1].map((offset) => run.records(batch(offset)).code)).toEqual([
    STREAM_OK,
    STREAM_DUPLICATE,
    STREAM_DUPLICATE,
    STREAM_OK,
    STREAM_OK,
  ]);
});
