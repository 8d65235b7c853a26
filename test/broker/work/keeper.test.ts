// What the leader of a queue does as time passes.

import { expect, test } from "vitest";
import type { GroupId } from "../../../src/base/ids.ts";
import { Keeper, type KeeperComponents } from "../../../src/broker/work/keeper.ts";
import { decodeCatalogCommand } from "../../../src/machine/catalog/commands.ts";
import { effective } from "../../../src/machine/catalog/settings.ts";
import { encodeWork } from "../../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import { MachineRun } from "../../machine/machine-run.ts";
import { TestClock } from "../../support/test-clock.ts";

const GROUP = 5 as GroupId;
const EXPIRES_MS = 5_000;
const HOUR_MS = 3_600_000;

test("keeper: a queue expires so long after its last use by the log's time, when a leader's clock was ahead before", () => {
  const run = new MachineRun(new StreamMachine({ isQueue: true }));
  const clock = new TestClock();
  clock.nowMs = 10_000;
  // The leader before was an hour ahead, and a consumer came and went under it.
  const usedMs = clock.nowMs + HOUR_MS;
  const terms = { gateway: 1, priority: 0, leaseMs: 1_000, staysMs: 0 };
  run.command(encodeWork([{ op: "attach", name: "", consumer: 1, terms, granted: 0 }]), usedMs);
  run.command(encodeWork([{ op: "detach", name: "", consumer: 1 }]), usedMs);
  let passedMs = 0;
  const replica = { group: GROUP, isLeader: true, descriptor: { kind: "queue" }, machine: run.machine, logMs: () => usedMs + passedMs };
  const topic = { vhost: "/", name: "q", queue: {}, works: [], createdMs: 1, partitions: [{ group: GROUP }] };
  const deleted: unknown[] = [];
  const components = {
    host: { get: () => replica, propose: () => {} },
    catalog: { group: () => ({ topic, partition: 0 }) },
    router: { catalog: (payload: Uint8Array) => deleted.push(decodeCatalogCommand(payload)) },
    clock,
    gateways: { begin: () => {}, isGone: () => false },
    settingsOf: () => effective({ expiresMs: EXPIRES_MS }, {}),
    deadLetters: { look: () => {} },
    relocator: { look: () => {} },
    feeder: { look: () => {} },
  };
  const keeper = new Keeper(components as unknown as KeeperComponents);
  keeper.worked(GROUP, { deliveries: [], revokes: [], dueMs: -1 });
  passedMs = EXPIRES_MS - 1;
  keeper.upkeep();
  expect(deleted).toEqual([]);
  passedMs = EXPIRES_MS;
  keeper.upkeep();
  expect(deleted).toMatchObject([{ declare: { do: "deleteQueue", vhost: "/", name: "q", group: GROUP } }]);
  keeper.stop();
});
