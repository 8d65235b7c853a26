// Requests on their way to a leader that cannot be reached: they wait, in order, in bounds, and hold up nothing else.

import { expect, test } from "vitest";
import type { GroupId, NodeId } from "../../src/base/ids.ts";
import { WAITING_BYTES_MAX } from "../../src/base/limits.ts";
import { Forwarder } from "../../src/broker/forwarder.ts";
import { Leaders } from "../../src/broker/leaders.ts";
import { LEADER_WAIT_MS, Router } from "../../src/broker/router.ts";
import { ENTRY_RECORDS } from "../../src/raft/types.ts";
import type { ReplicaHost } from "../../src/replica/host.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const GROUP = 7 as GroupId;
const LEADER = 2 as NodeId;

class Scene {
  readonly loop = new FakeLoop();
  readonly leaders = new Leaders();
  /** The link takes frames. */
  takes = false;
  /** The group. */
  isDeleted = false;
  tries = 0;
  /** First payload byte of what was sent, in order. */
  readonly sent: number[] = [];
  readonly outcomes: string[] = [];
  private readonly forwarder: Forwarder;
  readonly router: Router;

  constructor() {
    // No group is here, so the host is never asked.
    this.router = new Router({
      nodeId: 1 as NodeId,
      host: null as unknown as ReplicaHost,
      leaders: this.leaders,
      clock: this.loop,
      isDeleted: () => this.isDeleted,
    });
    this.forwarder = new Forwarder({
      send: (_to, parts) => {
        this.tries += 1;
        if (this.takes) this.sent.push(parts[2]![0]!);
        return this.takes;
      },
      operations: new Map(),
      notices: new Map(),
    });
    this.router.attach(this.forwarder);
    this.leaders.set(GROUP, LEADER, 1);
  }

  propose(payload: Uint8Array): void {
    this.router.propose(GROUP, ENTRY_RECORDS, payload, false, (error) => this.outcomes.push(error?.code ?? "ok"));
  }

  pass(ms: number): void {
    for (const until = this.loop.nowMs + ms; this.loop.nowMs < until; this.loop.turn()) this.loop.nowMs += 20;
  }
}

test("router: what waits for a leader of a group that is deleted fails at once, and not when its time is up", () => {
  const scene = new Scene();
  scene.propose(new Uint8Array([1]));
  scene.pass(100);
  expect(scene.outcomes).toEqual([]);
  scene.isDeleted = true;
  scene.pass(40);
  expect(scene.outcomes).toEqual(["NO_LEADER"]);
});

test("router: while the link to the leader takes nothing, one request is tried in a round, and all keep their order", () => {
  const scene = new Scene();
  for (let number = 0; number < 100; number++) scene.propose(new Uint8Array([number]));
  scene.tries = 0;
  scene.pass(200);
  expect(scene.tries).toBeLessThanOrEqual(10);
  scene.takes = true;
  scene.pass(20);
  expect(scene.sent).toEqual(Array.from({ length: 100 }, (_, number) => number));
});

test("router: who waits for long enough fails, each once", () => {
  const scene = new Scene();
  for (let number = 0; number < 100; number++) scene.propose(new Uint8Array([number]));
  scene.pass(LEADER_WAIT_MS + 100);
  expect(scene.outcomes).toEqual(Array.from({ length: 100 }, () => "NO_LEADER"));
  scene.takes = true;
  scene.pass(100);
  expect(scene.sent).toEqual([]);
});

test("router: what waits is bounded in bytes, and one request may always wait", () => {
  const scene = new Scene();
  scene.propose(new Uint8Array(WAITING_BYTES_MAX + 1));
  expect(scene.outcomes).toEqual([]);
  scene.propose(new Uint8Array(1));
  expect(scene.outcomes).toEqual(["OVERLOADED"]);
  scene.takes = true;
  scene.pass(20);
  // The bytes of those that are gone count no more.
  scene.takes = false;
  scene.propose(new Uint8Array(WAITING_BYTES_MAX));
  expect(scene.outcomes).toEqual(["OVERLOADED"]);
});

test("router: a question to a node without a link fails with a reason that lets it be asked again", async () => {
  const { router } = new Scene();
  const ended = new AbortController();
  await expect(router.ask(LEADER, 2, [], ended.signal)).rejects.toMatchObject({ code: "NO_LEADER" });
});
