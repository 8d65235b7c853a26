// A Consume call as the node and its client see it: frames are taken in order, and it ends when the node stops.

import { EventEmitter } from "node:events";
import type { ServiceError } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { ConsumeStream, type ConsumeCall } from "../../src/api/consume-stream.ts";
import type { ConsumeAnswer, ConsumeFrame } from "../../src/api/work-codec.ts";
import { BrokerError } from "../../src/base/errors.ts";
import { Pacer } from "../../src/base/pacer.ts";
import type { Broker } from "../../src/broker/types.ts";
import { OUTCOME_ACK, type SettleDone } from "../../src/broker/work/types.ts";
import { fromGrpc } from "../../src/client/errors.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Scene extends EventEmitter {
  readonly loop = new FakeLoop();
  /** Aborted when the node stops. */
  readonly stopping = new AbortController();
  /** What the consumer was told, in order. */
  readonly told: string[] = [];
  readonly settling: SettleDone[] = [];
  readonly answers: ConsumeAnswer[] = [];
  readonly errors: string[] = [];
  isPaused = false;

  /** Each frame costs so many milliseconds. */
  constructor(frameMs = 0) {
    super();
    const queues = {
      sure: () => Promise.resolve(),
      consume: () => ({
        credit: (messages: number) => {
          this.loop.nowMs += frameMs;
          this.told.push(`credit ${messages}`);
        },
        settle: (_: unknown, done: SettleDone) => this.settling.push(done),
        drain: () => {},
        resume: () => {},
        close: () => this.told.push("close"),
      }),
    };
    this.on("error", (status) => this.errors.push(fromGrpc(status as ServiceError).code));
    new ConsumeStream(this as unknown as ConsumeCall, { queues } as unknown as Broker, {
      pacer: new Pacer({ sliceMs: 8, waitingMax: 10 }, this.loop),
      stopping: this.stopping.signal,
    });
  }

  send(frame: Partial<ConsumeFrame>): void {
    this.emit("data", { value: { open: null, credit: null, settlements: [], drain: false, ...frame }, error: null });
  }

  open(messages: number): void {
    const open = { vhost: "", queue: "q", subscription: "", autoAck: false, leaseMs: 1_000, priority: 0, direct: false };
    this.send({ open, credit: { messages, bytes: 0 } });
  }

  grant(messages: number): void {
    this.send({ credit: { messages, bytes: 0 } });
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  write(answer: ConsumeAnswer): boolean {
    this.answers.push(answer);
    return true;
  }

  end(): void {
    this.told.push("end");
  }
}

test("consume stream: what came before the consumer was there, and beyond the slice, is taken in order", async () => {
  const scene = new Scene(5);
  scene.open(1);
  scene.grant(2);
  expect(scene.told).toEqual([]);
  await settle();
  expect([scene.told, scene.isPaused]).toEqual([["credit 1", "credit 2"], false]);
  scene.grant(3);
  scene.emit("end");
  expect([scene.told.length, scene.isPaused]).toEqual([2, true]);
  scene.loop.turn();
  await settle();
  expect(scene.told).toEqual(["credit 1", "credit 2", "credit 3", "close", "end"]);
});

test("consume stream: each settlement is answered for itself, with what was lost of it", async () => {
  const scene = new Scene();
  scene.open(1);
  await settle();
  const ack = { partition: 0, count: 5, token: 3, outcome: OUTCOME_ACK, delayMs: -1, leaseMs: 0, consumer: 0 } as const;
  scene.send({ settlements: [0, 5, 10, 15].map((firstOffset) => ({ ...ack, firstOffset })) });
  const error = new BrokerError("LEASE_LOST", "gone");
  const lost = [{ from: 11, end: 13 }];
  const outcomes = [
    { error: null, messages: 5, lost: [] },
    { error: null, messages: 5, lost: [] },
    { error, messages: 3, lost },
  ];
  for (const [at, outcome] of [...outcomes, { error, messages: 0, lost: [] }].entries())
    scene.settling[at]!(outcome.error, outcome.messages, outcome.lost);
  await settle();
  expect(scene.answers.flatMap(({ settled }) => settled)).toEqual([
    { firstId: 1, settlements: 2, error: null, messages: 10, lost: [] },
    { firstId: 3, settlements: 1, error, messages: 3, lost },
    { firstId: 4, settlements: 1, error, messages: 0, lost: [] },
  ]);
});

test.each([
  { name: "a consumer is connected", before: true, wait: true, told: ["credit 1", "close"] },
  { name: "a consumer is about to be", before: true, wait: false, told: [] },
  { name: "none has said anything yet", before: false, wait: false, told: [] },
])("consume stream: it ends when the node stops while $name, which is told to go elsewhere", async ({ before, wait, told }) => {
  const scene = new Scene();
  if (before) scene.open(1);
  if (wait) await settle();
  scene.stopping.abort();
  scene.grant(1);
  await settle();
  expect(scene.told).toEqual(told);
  expect(scene.errors).toEqual(["STOPPING"]);
});
