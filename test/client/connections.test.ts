import type { Client } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { Connections } from "../../src/client/connections.ts";

test("connections: one carries so many calls, then there is a second one; what has ended makes room", () => {
  let made = 0;
  const closed: number[] = [];
  const node = new Connections(() => {
    const number = ++made;
    return { number, close: () => closed.push(number) } as unknown as Client;
  });
  const taken = Array.from({ length: 80 }, () => node.take());
  expect(made).toBe(1);
  const further = Array.from({ length: 81 }, () => node.take());
  expect(made).toBe(3);
  expect(further[0]!.client).not.toBe(node.first);
  node.release(taken[0]!);
  expect(node.take().client).toBe(node.first);
  node.close();
  expect(closed).toEqual([1, 2, 3]);
});

test("connections: there are only so many, then they are shared evenly", () => {
  let made = 0;
  const node = new Connections(() => ({ number: ++made }) as unknown as Client);
  const taken = Array.from({ length: 128 * 90 }, () => node.take());
  expect(made).toBe(128);
  expect(new Set(taken.map(({ calls }) => calls))).toEqual(new Set([90]));
});
