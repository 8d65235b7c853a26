// Calls share the event loop by slices: a clock of our own says when one is used up, and when the next turn of the loop comes.

import { expect, test } from "vitest";
import { Pacer } from "../../src/base/pacer.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const settle = async (): Promise<void> => {
  for (let count = 0; count < 10; count++) await Promise.resolve();
};

test("pacer: who asks while there is time goes on at once, whoever comes later waits for the next turn of the loop", async () => {
  const loop = new FakeLoop();
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, loop);
  expect(pacer.turn()).toBeNull();
  loop.nowMs += 7;
  expect(pacer.turn()).toBeNull();
  loop.nowMs += 1;
  let done = false;
  void pacer.turn()!.then(() => (done = true));
  await settle();
  expect(done).toBe(false);
  loop.turn();
  await settle();
  expect(done).toBe(true);
});

test("pacer: those in line go in order, each after the work of the one before, and a slice at a time", async () => {
  const loop = new FakeLoop();
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 100 }, loop);
  const order: number[] = [];
  expect(pacer.turn()).toBeNull();
  loop.nowMs += 8;
  const work = async (number: number): Promise<void> => {
    await pacer.turn();
    order.push(number);
    loop.nowMs += 3;
  };
  const all = Promise.all(Array.from({ length: 7 }, (_, number) => work(number)));
  loop.turn();
  await settle();
  expect(order).toEqual([0, 1, 2]);
  // Whoever comes now stands behind them, though a slice has just begun.
  loop.turn();
  const late = work(7);
  await settle();
  expect(order).toEqual([0, 1, 2, 3, 4, 5]);
  loop.turn();
  await settle();
  await Promise.all([all, late]);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

test("pacer: the line is bounded", async () => {
  const loop = new FakeLoop();
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 2 }, loop);
  expect(pacer.turn()).toBeNull();
  loop.nowMs += 8;
  const waiting = [pacer.turn()!, pacer.turn()!];
  await expect(pacer.turn()).rejects.toMatchObject({ code: "OVERLOADED" });
  loop.turn();
  await Promise.all(waiting);
});
