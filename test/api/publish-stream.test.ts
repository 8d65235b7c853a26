// A PublishStream shares the event loop: its frames wait for their slice, in order, and nothing is read meanwhile.

import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import { PublishStream, type PublishCall as Call } from "../../src/api/publish-stream.ts";
import type { Ack, PublishFrame } from "../../src/api/raw-codec.ts";
import { Traffic } from "../../src/api/traffic.ts";
import { BrokerError } from "../../src/base/errors.ts";
import { FRAME_ACKS_MAX } from "../../src/base/limits.ts";
import { Pacer } from "../../src/base/pacer.ts";
import type { Broker, PublishCall, PublishDone } from "../../src/broker/types.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Scene extends EventEmitter {
  readonly loop = new FakeLoop();
  /** Aborted when the node stops. */
  readonly stopping = new AbortController();
  readonly traffic = new Traffic();
  readonly published: number[] = [];
  readonly acks: (readonly Ack[])[] = [];
  isPaused = false;
  hasEnded = false;
  private nextId = 1;
  private readonly answer: (done: PublishDone, count: number) => void;

  /** Each frame costs so many milliseconds. */
  constructor(frameMs: number, answer: (done: PublishDone, count: number) => void) {
    super();
    this.answer = answer;
    const broker = {
      publish: (call: PublishCall, done: PublishDone) => {
        this.loop.nowMs += frameMs;
        this.published.push(call.sequence);
        this.answer(done, call.count);
      },
    };
    new PublishStream(this as unknown as Call, broker as unknown as Broker, {
      pacer: new Pacer({ sliceMs: 8, waitingMax: 10 }, this.loop),
      stopping: this.stopping.signal,
      traffic: this.traffic,
    });
  }

  send(batches = 1): void {
    const frame: PublishFrame = {
      open:
        this.nextId === 1
          ? { vhost: "", topic: "t", producerId: 0, producerEpoch: 0, direct: false, exchange: null, mandatory: false }
          : null,
      batches: Array.from({ length: batches }, () => ({
        ...{ id: this.nextId, partition: 0, sequence: this.nextId++, count: 1, records: new Uint8Array(1), routingKey: "" },
      })),
    };
    this.emit("data", { value: frame, error: null });
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  write(acks: readonly Ack[]): boolean {
    this.acks.push(acks);
    return true;
  }

  end(): void {
    this.hasEnded = true;
  }
}

test("publish stream: frames beyond the slice wait for the next one, in order, and reading stops meanwhile", async () => {
  let offset = 0;
  const scene = new Scene(5, (done, count) => done(null, 0, (offset += count) - count, count, false));
  scene.send();
  scene.send();
  expect([scene.published, scene.isPaused]).toEqual([[1, 2], false]);
  scene.send();
  expect([scene.published, scene.isPaused]).toEqual([[1, 2], true]);
  // What was on its way when reading stopped, and the end of the call.
  scene.send();
  scene.send();
  scene.emit("end");
  await settle();
  expect([scene.published, scene.hasEnded]).toEqual([[1, 2], false]);
  scene.loop.turn();
  await settle();
  expect([scene.published, scene.hasEnded]).toEqual([[1, 2, 3, 4], false]);
  scene.loop.turn();
  await settle();
  expect([scene.published, scene.hasEnded, scene.isPaused]).toEqual([[1, 2, 3, 4, 5], true, false]);
  expect(scene.acks.flat().reduce((sum, { batches }) => sum + batches, 0)).toBe(5);
});

test("publish stream: failures of many batches are told in answers of bounded length", async () => {
  const error = new BrokerError("UNKNOWN_TOPIC", "m".repeat(1_000));
  const scene = new Scene(0, (done) => done(error, 0, -1, 0, false));
  scene.send(FRAME_ACKS_MAX);
  scene.send(FRAME_ACKS_MAX);
  scene.send(10);
  await settle();
  expect(scene.acks.map((acks) => acks.length)).toEqual([FRAME_ACKS_MAX, FRAME_ACKS_MAX, 10]);
});

test("publish stream: when the node stops, what was taken is answered, nothing more is taken, and the call ends", async () => {
  const answers: (() => void)[] = [];
  const scene = new Scene(5, (done, count) => void answers.push(() => done(null, 0, 7, count, false)));
  scene.send();
  scene.send();
  // Beyond the slice.
  scene.send();
  scene.stopping.abort();
  scene.send();
  await settle();
  expect([scene.published, scene.hasEnded]).toEqual([[1, 2], false]);
  answers[0]!();
  await settle();
  expect(scene.hasEnded).toBe(false);
  answers[1]!();
  await settle();
  expect([scene.acks.flat().map(({ firstId }) => firstId), scene.hasEnded]).toEqual([[1, 2], true]);
  scene.loop.turn();
  await settle();
  expect(scene.published).toEqual([1, 2]);
});
