// Unary calls begin when the event loop has time for them.

import { EventEmitter } from "node:events";
import type { sendUnaryData, ServerUnaryCall } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import type { Decoded } from "../../src/api/definitions.ts";
import { unary } from "../../src/api/unary.ts";
import type { Logger } from "../../src/base/logger.ts";
import { Pacer } from "../../src/base/pacer.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const logger = { error: () => {} } as unknown as Logger;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** As much of a call as is looked at. */
class Call extends EventEmitter {
  readonly request: Decoded<string>;

  constructor(text: string) {
    super();
    this.request = { value: text, error: null };
  }

  getDeadline(): number {
    return Number.POSITIVE_INFINITY;
  }
}

test("unary: a call begins in a later slice when this one is used up; one whose caller left by then is not begun at all", async () => {
  const loop = new FakeLoop();
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, loop);
  const begun: string[] = [];
  const ended: string[] = [];
  const serve = unary(
    { defaultDeadlineMs: 60_000, logger, pacer, worked: () => {}, stopping: new AbortController().signal },
    (text: string) => {
      begun.push(text);
      loop.nowMs += 5;
      return text;
    },
  );
  const start = (text: string): Call => {
    const call = new Call(text);
    const done: sendUnaryData<string> = (error) => void ended.push(error === null ? text : `${text}: ${error.code}`);
    serve(call as unknown as ServerUnaryCall<Decoded<string>, string>, done);
    return call;
  };
  start("first");
  start("second");
  start("third");
  start("left").emit("cancelled");
  start("last");
  await settle();
  expect(begun).toEqual(["first", "second"]);
  loop.turn();
  await settle();
  expect(begun).toEqual(["first", "second", "third", "last"]);
  expect(ended.sort()).toEqual(["first", "last", "left: 4", "second", "third"]);
});
