import { expect, test } from "vitest";
import { PRODUCERS_PER_STREAM_MAX } from "../../src/base/limits.ts";
import {
  STREAM_BAD_COMMAND,
  STREAM_DUPLICATE,
  STREAM_FENCED,
  STREAM_OK,
  STREAM_OUT_OF_SEQUENCE,
  STREAM_PRODUCER_UNKNOWN,
} from "../../src/machine/stream/codes.ts";
import { PRODUCER_IDLE_MS } from "../../src/machine/stream/producers.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { records } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";

/** [producer, epoch, sequence, count] -> [code, value] */
type Step = readonly [send: readonly [number, number, number, number], expected: readonly [number, number]];
const NINE: Step[] = Array.from({ length: 9 }, (_, at): Step => [
  [1, 0, at * 10, 10],
  [STREAM_OK, at * 10],
]);

const cases: readonly { name: string; steps: readonly Step[] }[] = [
  {
    name: "without an id nothing is compared",
    steps: [
      [
        [0, 0, 5, 2],
        [STREAM_OK, 0],
      ],
      [
        [0, 9, 5, 2],
        [STREAM_OK, 2],
      ],
      [
        [0, 0, 0, 1],
        [STREAM_OK, 4],
      ],
    ],
  },
  {
    name: "sequences that follow each other are stored",
    steps: [
      [
        [1, 0, 0, 2],
        [STREAM_OK, 0],
      ],
      [
        [1, 0, 2, 3],
        [STREAM_OK, 2],
      ],
      [
        [1, 0, 5, 1],
        [STREAM_OK, 5],
      ],
    ],
  },
  {
    name: "an unknown producer begins at 0",
    steps: [
      [
        [1, 3, 1, 1],
        [STREAM_PRODUCER_UNKNOWN, -1],
      ],
      [
        [1, 3, 0, 1],
        [STREAM_OK, 0],
      ],
    ],
  },
  {
    name: "a retry gets the first offset",
    steps: [
      [
        [2, 0, 0, 4],
        [STREAM_OK, 0],
      ],
      [
        [1, 0, 0, 2],
        [STREAM_OK, 4],
      ],
      [
        [1, 0, 0, 2],
        [STREAM_DUPLICATE, 4],
      ],
      [
        [1, 0, 2, 1],
        [STREAM_OK, 6],
      ],
    ],
  },
  {
    name: "a part of a stored batch gets its own offset",
    steps: [
      [
        [2, 0, 0, 4],
        [STREAM_OK, 0],
      ],
      [
        [1, 0, 0, 5],
        [STREAM_OK, 4],
      ],
      [
        [1, 0, 3, 2],
        [STREAM_DUPLICATE, 7],
      ],
    ],
  },
  {
    name: "a retry over two stored batches has no offset",
    steps: [
      [
        [1, 0, 0, 2],
        [STREAM_OK, 0],
      ],
      [
        [0, 0, 0, 7],
        [STREAM_OK, 2],
      ],
      [
        [1, 0, 2, 2],
        [STREAM_OK, 9],
      ],
      [
        [1, 0, 0, 4],
        [STREAM_DUPLICATE, -1],
      ],
      [
        [1, 0, 1, 2],
        [STREAM_DUPLICATE, -1],
      ],
    ],
  },
  {
    name: "a gap is refused",
    steps: [
      [
        [1, 0, 0, 2],
        [STREAM_OK, 0],
      ],
      [
        [1, 0, 3, 1],
        [STREAM_OUT_OF_SEQUENCE, -1],
      ],
      [
        [1, 0, 2, 1],
        [STREAM_OK, 2],
      ],
    ],
  },
  {
    name: "a batch that is stored in part is refused",
    steps: [
      [
        [1, 0, 0, 2],
        [STREAM_OK, 0],
      ],
      [
        [1, 0, 1, 2],
        [STREAM_OUT_OF_SEQUENCE, -1],
      ],
      [
        [1, 0, 0, 3],
        [STREAM_OUT_OF_SEQUENCE, -1],
      ],
    ],
  },
  {
    name: "a higher epoch begins at 0",
    steps: [
      [
        [1, 0, 0, 2],
        [STREAM_OK, 0],
      ],
      [
        [1, 2, 2, 1],
        [STREAM_OUT_OF_SEQUENCE, -1],
      ],
      [
        [1, 2, 0, 1],
        [STREAM_OK, 2],
      ],
      [
        [1, 2, 1, 1],
        [STREAM_OK, 3],
      ],
    ],
  },
  {
    name: "a lower epoch is fenced, its retries too",
    steps: [
      [
        [1, 1, 0, 2],
        [STREAM_OK, 0],
      ],
      [
        [1, 0, 0, 2],
        [STREAM_FENCED, -1],
      ],
      [
        [1, 2, 0, 1],
        [STREAM_OK, 2],
      ],
      [
        [1, 1, 0, 2],
        [STREAM_FENCED, -1],
      ],
      [
        [1, 1, 2, 1],
        [STREAM_FENCED, -1],
      ],
    ],
  },
  {
    name: "a refused higher epoch fences nobody",
    steps: [
      [
        [1, 0, 0, 1],
        [STREAM_OK, 0],
      ],
      [
        [1, 1, 5, 1],
        [STREAM_OUT_OF_SEQUENCE, -1],
      ],
      [
        [1, 0, 1, 1],
        [STREAM_OK, 1],
      ],
    ],
  },
  {
    name: "producers do not see each other",
    steps: [
      [
        [1, 5, 0, 1],
        [STREAM_OK, 0],
      ],
      [
        [2, 0, 0, 1],
        [STREAM_OK, 1],
      ],
      [
        [1, 5, 1, 1],
        [STREAM_OK, 2],
      ],
      [
        [2, 0, 1, 1],
        [STREAM_OK, 3],
      ],
    ],
  },
  {
    name: "the last eight batches are remembered",
    steps: [
      ...NINE,
      [
        [1, 0, 0, 10],
        [STREAM_DUPLICATE, -1],
      ],
      [
        [1, 0, 10, 10],
        [STREAM_DUPLICATE, 10],
      ],
      [
        [1, 0, 80, 10],
        [STREAM_DUPLICATE, 80],
      ],
    ],
  },
  {
    name: "ids up to 2^53-1 are told apart",
    steps: [
      [
        [Number.MAX_SAFE_INTEGER, 0, 0, 1],
        [STREAM_OK, 0],
      ],
      [
        [Number.MAX_SAFE_INTEGER - 1, 0, 0, 1],
        [STREAM_OK, 1],
      ],
      [
        [Number.MAX_SAFE_INTEGER, 0, 1, 1],
        [STREAM_OK, 2],
      ],
    ],
  },
];

for (const { name, steps } of cases) {
  test(`producers: ${name}`, () => {
    const run = new MachineRun(new StreamMachine());
    steps.forEach(([[id, epoch, sequence, count], [code, value]], at) => {
      const end = run.machine.endOffset;
      const reply = run.records(records(count, { id, epoch, sequence }));
      expect([reply.code, reply.value], `step ${at}`).toEqual([code, value]);
      // Only what was stored takes offsets, and only what was not is void.
      expect(run.machine.endOffset, `step ${at}`).toBe(end + (code === STREAM_OK ? count : 0));
      expect(run.machine.isVoid(run.index), `step ${at}`).toBe(code !== STREAM_OK);
    });
  });
}

test("producers: a payload that cannot be read is void and takes no offsets", () => {
  const run = new MachineRun(new StreamMachine());
  expect(run.records(new Uint8Array([9, 9])).code).toBe(STREAM_BAD_COMMAND);
  expect([run.machine.isVoid(1), run.machine.endOffset]).toEqual([true, 0]);
});

test("producers: beyond the bound the one that stored nothing for longest is forgotten", () => {
  const run = new MachineRun(new StreamMachine());
  for (let id = 1; id <= PRODUCERS_PER_STREAM_MAX; id++) run.records(records(1, { id }));
  expect(run.records(records(1, { id: 1, sequence: 1 })).code).toBe(STREAM_OK);
  expect(run.records(records(1, { id: PRODUCERS_PER_STREAM_MAX + 1 })).code).toBe(STREAM_OK);
  expect(run.records(records(1, { id: 2, sequence: 1 })).code).toBe(STREAM_PRODUCER_UNKNOWN);
  for (const id of [1, 3, PRODUCERS_PER_STREAM_MAX + 1]) {
    expect(run.records(records(1, { id, sequence: 9 })).code, `producer ${id}`).toBe(STREAM_OUT_OF_SEQUENCE);
  }
});

test("producers: who stored nothing for a day of the log's time is forgotten, at the next batch of anybody", () => {
  const run = new MachineRun(new StreamMachine());
  run.records(records(1, { id: 1 }), 1_000);
  run.records(records(1, { id: 2 }), 2_000);
  run.records(records(1, { id: 3 }), 1_000 + PRODUCER_IDLE_MS);
  expect(run.records(records(1, { id: 1, sequence: 1 }), 1_000 + PRODUCER_IDLE_MS).code).toBe(STREAM_PRODUCER_UNKNOWN);
  expect(run.records(records(1, { id: 2, sequence: 1 }), 1_000 + PRODUCER_IDLE_MS).code).toBe(STREAM_OK);
});
