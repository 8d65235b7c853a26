// What a consumer's part takes of what leaders say to it, by whichever way it comes.

import { expect, test } from "vitest";
import { BrokerError } from "../../../src/base/errors.ts";
import type { GroupId } from "../../../src/base/ids.ts";
import { GRANTS_INFLIGHT_MAX } from "../../../src/base/limits.ts";
import { Gateway, type GatewayComponents } from "../../../src/broker/work/gateway.ts";
import type { OperateDone } from "../../../src/broker/work/operator.ts";
import { Part } from "../../../src/broker/work/part.ts";
import type { TopicRow } from "../../../src/machine/catalog/catalog.ts";
import type { WorkOperation } from "../../../src/machine/work/operations.ts";
import { WORK_NO_CONSUMER } from "../../../src/machine/work/works.ts";
import { encodeLeases, type LeasedRun } from "../../../src/broker/work/codec.ts";

const GROUP = 5 as GroupId;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Said = { readonly operation: WorkOperation; readonly done: OperateDone };

/** A part with room for ten messages whose group answers when the test says so. */
function topicOf(subscription: string, works: readonly string[]): TopicRow {
  const queue = subscription === "" ? {} : null;
  return { queue, works: works.map((name) => ({ name })), partitions: [{ group: GROUP }] } as unknown as TopicRow;
}

function unanswered(
  subscription = "",
  works: readonly string[] | null = [],
): {
  readonly gateway: Gateway;
  readonly part: Part;
  readonly said: Said[];
  readonly timers: (() => void)[];
  readonly failures: string[];
  readonly given: () => number;
} {
  const said: Said[] = [];
  const timers: (() => void)[] = [];
  const failures: string[] = [];
  const operate = (_group: GroupId, operation: WorkOperation, done: OperateDone): void => void said.push({ operation, done });
  const ask = (group: GroupId, operation: WorkOperation): Promise<number> =>
    new Promise((resolve, reject) => operate(group, operation, (error, result) => (error === null ? resolve(result) : reject(error))));
  const components = {
    nodeId: 1,
    incarnation: 1,
    operator: { operate, ask },
    catalog: {
      group: () => (works === null ? undefined : { topic: topicOf(subscription, works) }),
      groupState: () => (works === null ? "deleted" : "present"),
    },
    clock: { schedule: (_ms: number, then: () => void) => timers.push(then), monotonicMs: () => 0 },
  };
  const gateway = new Gateway(components as unknown as GatewayComponents);
  let count = 0;
  const events = {
    attached: () => {},
    given: () => (count += 1),
    revoked: () => {},
    failed: ({ code }: BrokerError) => void failures.push(code),
  };
  const terms = { group: GROUP, partition: 0, subscription, priority: 0, leaseMs: 1_000, staysMs: 0 };
  const part = new Part(gateway, terms, 10, events as ConstructorParameters<typeof Part>[3]);
  return { gateway, part, said, timers, failures, given: () => count };
}

const grants = (said: readonly Said[]): unknown[] =>
  said.map(({ operation }) => [operation.op, operation.op === "attach" || operation.op === "grant" ? operation.granted : -1]);

/** A part with room for ten messages, in a gateway whose leader says of it what is in `leases`. */
function attached(leases: LeasedRun[]): { readonly gateway: Gateway; readonly part: Part; readonly given: () => number } {
  const components = {
    nodeId: 1,
    incarnation: 1,
    operator: { operate: (_group: GroupId, _operation: object, done: (error: null, result: number) => void) => done(null, 0) },
    router: {
      leaderOf: () => 2,
      leader: () => Promise.resolve(2),
      ask: () =>
        Promise.resolve(
          encodeLeases(
            leases.map(({ from, end, token, deadlineMs, deliveries }) => ({ run: { from, end }, token, deadlineMs, deliveries })),
          ),
        ),
    },
    clock: { schedule: () => ({ cancel: () => {} }), monotonicMs: () => 0 },
  };
  const gateway = new Gateway(components as unknown as GatewayComponents);
  let count = 0;
  const events = { attached: () => {}, given: () => (count += 1), revoked: () => {}, failed: () => {} };
  const terms = { group: GROUP, partition: 0, subscription: "", priority: 0, leaseMs: 1_000, staysMs: 0 };
  const part = new Part(gateway, terms, 10, events as ConstructorParameters<typeof Part>[3]);
  return { gateway, part, given: () => count };
}

function run(consumer: number, from: number, end: number, token: number): LeasedRun {
  return { consumer, from, end, token, deadlineMs: 9_000, deliveries: 1 };
}

test("part: what the leader of before and that of now both say is taken once, in all its runs", () => {
  const { gateway, part } = attached([]);
  const notice = { group: GROUP, deliveries: [run(part.consumer, 0, 2, 7), run(part.consumer, 4, 5, 7)], revokes: [] };
  gateway.given(notice);
  gateway.given(notice);
  expect([part.pendingMessages, part.outstanding]).toEqual([3, 7]);
  gateway.given({ group: GROUP, deliveries: [run(part.consumer, 0, 2, 9)], revokes: [] });
  expect([part.pendingMessages, part.outstanding]).toEqual([5, 5]);
});

test("part: once it is attached, room is said at once and does not wait for the answer to what was said before", () => {
  const { part, said } = unanswered();
  part.grant(5);
  expect(grants(said)).toEqual([["attach", 10]]);
  said[0]!.done(null, 0, []);
  part.grant(3);
  part.grant(2);
  expect(grants(said.slice(1))).toEqual([
    ["grant", 15],
    ["grant", 18],
    ["grant", 20],
  ]);
});

test("part: room that may not have come to the group is said again, all of it at one time", () => {
  const { part, said, timers } = unanswered();
  said.shift()!.done(null, 0, []);
  part.grant(5);
  part.grant(3);
  for (const { done } of said.splice(0)) done(new BrokerError("NO_LEADER", "nobody leads"), 0, []);
  expect(timers).toHaveLength(1);
  timers[0]!();
  expect(grants(said)).toEqual([["grant", 18]]);
});

test("part: a group that has forgotten it is told once of all its room, under another number", () => {
  const { part, said } = unanswered();
  const { consumer } = part;
  said.shift()!.done(null, 0, []);
  part.grant(5);
  part.grant(3);
  for (const { done } of said.splice(0)) done(null, WORK_NO_CONSUMER, []);
  expect(grants(said)).toEqual([["attach", 18]]);
  expect(part.consumer).not.toBe(consumer);
});

test("part: only so much of what it says of its room is unanswered; then it says the newest total", async () => {
  const { part, said } = unanswered();
  said.shift()!.done(null, 0, []);
  for (let at = 0; at < 100; at++) part.grant(1);
  expect(grants(said)).toEqual(Array.from({ length: GRANTS_INFLIGHT_MAX }, (_, at) => ["grant", 11 + at]));
  said.shift()!.done(null, 0, []);
  expect(grants(said).at(-1)).toEqual(["grant", 110]);
  for (const { done } of said.splice(0)) done(null, 0, []);
  expect(said).toEqual([]);
});

test("part: it drains once what it said of its room is answered, so that no room is left that it does not know of", async () => {
  const { part, said, timers } = unanswered();
  const [attach] = said.splice(0);
  const drained = part.drain();
  part.grant(5);
  expect(said).toEqual([]);
  attach!.done(null, 0, []);
  await turn();
  expect(grants(said)).toEqual([["drain", -1]]);
  said.shift()!.done(null, 3, []);
  expect(await drained).toBe(7);
  expect(part.outstanding).toBe(3);
  part.grant(4);
  expect(grants(said)).toEqual([["grant", 7]]);
  // Had an answer of before raised what the group is said to know, this would not be said again.
  said.shift()!.done(new BrokerError("NO_LEADER", "nobody leads"), 0, []);
  timers[0]!();
  expect(grants(said)).toEqual([["grant", 7]]);
});

test("part: a group that does not know of it has nothing to take back, and is told of it afterwards", async () => {
  const { part, said, timers } = unanswered();
  said.shift()!.done(new BrokerError("LEADER_CHANGED", "nobody knows"), 0, []);
  const drained = part.drain();
  await turn();
  said.shift()!.done(null, WORK_NO_CONSUMER, []);
  expect([await drained, part.outstanding]).toEqual([10, 0]);
  timers[0]!();
  expect(grants(said)).toEqual([["attach", 0]]);
  said.shift()!.done(null, 0, []);
  part.grant(2);
  expect(grants(said)).toEqual([["grant", 2]]);
});

test("part: a group that has certainly not heard of it is not asked to take anything back", async () => {
  const { part, said } = unanswered();
  said.shift()!.done(new BrokerError("NO_LEADER", "nobody leads"), 0, []);
  expect([await part.drain(), part.outstanding, said]).toEqual([10, 0, []]);
});

test("part: a group that has forgotten it while it drains is told of it without room", async () => {
  const { part, said } = unanswered();
  said.shift()!.done(null, 0, []);
  part.leased([run(part.consumer, 0, 2, 7)]);
  const drained = part.drain();
  await turn();
  said.shift()!.done(null, WORK_NO_CONSUMER, []);
  await drained;
  expect(grants(said)).toEqual([["attach", 0]]);
  expect(part.pendingMessages).toBe(0);
});

test.each([
  { name: "its queue", subscription: "", works: null, code: "UNKNOWN_QUEUE" },
  { name: "its topic", subscription: "w", works: null, code: "UNKNOWN_TOPIC" },
  { name: "its subscription", subscription: "w", works: ["other"], code: "UNKNOWN_SUBSCRIPTION" },
  { name: "another subscription", subscription: "w", works: ["w"], code: "" },
])("part: it hears at once that $name is deleted", ({ subscription, works, code }) => {
  const { gateway, failures } = unanswered(subscription, works);
  gateway.catalogChanged();
  if (works !== null) gateway.topicChanged(topicOf(subscription, works));
  expect(failures).toEqual(code === "" ? [] : [code]);
});

test("part: runs that come together are told of together", () => {
  const { part, given } = unanswered();
  part.leased([run(part.consumer, 0, 2, 7), run(part.consumer, 2, 9, 7)]);
  expect([given(), part.pendingMessages]).toEqual([1, 9]);
});

test("part: what a look has brought is not taken again when it is said late", async () => {
  const leases: LeasedRun[] = [];
  const { gateway, part, given } = attached(leases);
  leases.push(run(part.consumer, 0, 2, 7));
  gateway.leaderChanged(GROUP);
  await expect.poll(given).toBe(1);
  gateway.given({ group: GROUP, deliveries: leases, revokes: [] });
  expect([part.pendingMessages, part.outstanding]).toEqual([2, 8]);
});
