// What a consumer's part takes of what leaders say to it, by whichever way it comes.

import { expect, test } from "vitest";
import type { GroupId } from "../../../src/base/ids.ts";
import { Gateway, type GatewayComponents } from "../../../src/broker/work/gateway.ts";
import { Part } from "../../../src/broker/work/part.ts";
import { encodeLeases, type LeasedRun } from "../../../src/broker/work/codec.ts";

const GROUP = 5 as GroupId;

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

test("part: what a look has brought is not taken again when it is said late", async () => {
  const leases: LeasedRun[] = [];
  const { gateway, part, given } = attached(leases);
  leases.push(run(part.consumer, 0, 2, 7));
  gateway.leaderChanged(GROUP);
  await expect.poll(given).toBe(1);
  gateway.given({ group: GROUP, deliveries: leases, revokes: [] });
  expect([part.pendingMessages, part.outstanding]).toEqual([2, 8]);
});
