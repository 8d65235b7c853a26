// Bugs of queues: who holds what and for how long, what becomes of it, and in which order.

import { DeadLetters } from "../../../src/broker/work/dead-letters.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import { KeyOrder } from "../../../src/machine/work/key-order.ts";
import { Places } from "../../../src/machine/work/places.ts";
import { DEAD_LIMIT } from "../../../src/machine/work/state.ts";
import { Dues } from "../../../src/machine/work/dues.ts";
import { Work } from "../../../src/machine/work/work.ts";
import { swap, type Planted } from "./swap.ts";

type End = (this: Work, consumer: unknown, from: number, end: number, outcome: { kind: string }, nowMs: number) => void;
type Kill = (this: { ready(from: number, end: number): void }, from: number, end: number, reason: number) => void;

export const PLANTED_QUEUES: readonly Planted[] = [
  {
    name: "anybody-settles",
    what: "a message is settled by whoever says so, whoever holds it",
    within: 130,
    run: { queues: 2 },
    plant: () => swap<(this: Work) => boolean>(Work, "isHeld", () => () => true),
  },
  {
    name: "settled-at-any-rate",
    what: "who lost a message is told that it settled it",
    within: 40,
    run: { queues: 2 },
    plant: () =>
      swap<Work["settle"]>(
        Work,
        "settle",
        (settle) =>
          function (this: Work, id, from, end, token, outcome, nowMs) {
            settle.call(this, id, from, end, token, outcome, nowMs);
            return end - from;
          },
      ),
  },
  {
    name: "gone-with-its-consumer",
    what: "what a consumer held when it went counts as done",
    within: 20,
    run: { queues: 2 },
    plant: () =>
      swap<Work["detach"]>(
        Work,
        "detach",
        (detach) =>
          function (this: Work, id, nowMs) {
            const end = swap<End>(
              Work,
              "end",
              (original) =>
                function (this: Work, consumer, from, until, _outcome, atMs) {
                  original.call(this, consumer, from, until, { kind: "ack" }, atMs);
                },
            );
            try {
              return detach.call(this, id, nowMs);
            } finally {
              end();
            }
          },
      ),
  },
  {
    name: "held-for-ever",
    what: "a lease does not end by itself",
    within: 20,
    run: { queues: 2 },
    plant: () =>
      swap<Dues["take"]>(
        Dues,
        "take",
        (take) =>
          function (this: Dues, heap, map, column, nowMs, then) {
            if (heap === this.leases) while (heap.pop(nowMs) !== undefined);
            else take.call(this, heap, map, column, nowMs, then);
          },
      ),
  },
  {
    name: "delay-ignored",
    what: "a delayed message may go at once",
    within: 20,
    run: { queues: 2 },
    plant: () =>
      swap<Work["enqueue"]>(
        Work,
        "enqueue",
        (enqueue) =>
          function (this: Work, from, end, facts, nowMs, bytesEach) {
            enqueue.call(this, from, end, { ...facts, dueMs: 0 }, nowMs, bytesEach);
          },
      ),
  },
  {
    name: "expired-delivered",
    what: "what has expired while it waited is delivered",
    within: 40,
    run: { queues: 2 },
    plant: () => swap<() => void>(Places, "expire", () => () => {}),
  },
  {
    name: "limit-ignored",
    what: "a message is delivered more often than it may be",
    within: 40,
    run: { queues: 2 },
    plant: () =>
      swap<Kill>(
        Places,
        "kill",
        (kill) =>
          function (from, end, reason) {
            if (reason === DEAD_LIMIT) this.ready(from, end);
            else kill.call(this, from, end, reason);
          },
      ),
  },
  {
    name: "buried-before-published",
    what: "a dead letter is buried, and published nowhere",
    within: 20,
    run: { queues: 2 },
    plant: () => swap<() => Promise<void>>(DeadLetters, "publish", () => () => Promise.resolve()),
  },
  {
    name: "keys-unordered",
    what: "messages of one key are in flight at one time",
    within: 40,
    run: { queues: 2 },
    plant: () => swap<KeyOrder["claim"]>(KeyOrder, "claim", () => () => true),
  },
  {
    name: "unsettled-given-back",
    what: "a queue gives back everything that it stores, settled or not",
    within: 20,
    run: { queues: 2 },
    plant: () =>
      swap<() => void>(
        StreamMachine,
        "moveFloor",
        () =>
          function (this: StreamMachine) {
            this.startOffset = this.endOffset;
          },
      ),
  },
];
