// What the leader of a queue does as time passes.

import { expect, test } from "vitest";
import type { GroupId } from "../../../src/base/ids.ts";
import { Keeper, type KeeperComponents } from "../../../src/broker/work/keeper.ts";
import { decodeCatalogCommand } from "../../../src/machine/catalog/commands.ts";
import { effective } from "../../../src/machine/catalog/settings.ts";
import { encodeTrim, encodeWork } from "../../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import { records } from "../../machine/entries.ts";
import { MachineRun } from "../../machine/machine-run.ts";
import { TestClock } from "../../support/test-clock.ts";

const GROUP = 5 as GroupId;
const EXPIRES_MS = 5_000;
const HOUR_MS = 3_600_000;

/** A queue that expires, its leader's keeper, and clocks that say what the test wants. */
class Scene {
  readonly run = new MachineRun(new StreamMachine({ isQueue: true }));
  readonly clock = new TestClock();
  readonly deleted: unknown[] = [];
  /** Notices to gateways. */
  readonly told: unknown[] = [];
  readonly keeper: Keeper;
  /** The log's time. */
  logMs = 10_000;
  /** What a majority says when it is asked whether this node leads. */
  leads = true;

  constructor() {
    const { run } = this;
    const replica = { group: GROUP, isLeader: true, descriptor: { kind: "queue" }, machine: run.machine, logMs: () => this.logMs };
    const topic = { vhost: "/", name: "q", queue: {}, works: [], createdMs: 1, partitions: [{ group: GROUP }] };
    const components = {
      host: { get: () => replica, propose: () => {}, readBarrier: (_group: GroupId, done: (ok: boolean) => void) => done(this.leads) },
      catalog: { group: () => ({ topic, partition: 0 }) },
      router: { catalog: (payload: Uint8Array) => this.deleted.push(decodeCatalogCommand(payload)) },
      clock: this.clock,
      gateways: { begin: () => {}, isGone: () => false },
      settingsOf: () => effective({ expiresMs: EXPIRES_MS }, {}),
      deadLetters: { look: () => {} },
      relocator: { look: () => {} },
      feeder: { look: () => {} },
      lookAtTransactions: () => {},
      given: (notice: unknown) => this.told.push(notice),
      tell: (_node: number, notice: unknown) => this.told.push(notice),
    };
    this.keeper = new Keeper(components as unknown as KeeperComponents);
    this.keeper.worked(GROUP, { deliveries: [], revokes: [], dueMs: -1 });
    this.keeper.upkeep();
  }

  /** A consumer comes and goes. */
  use(): void {
    const terms = { gateway: 1, priority: 0, leaseMs: 1_000, staysMs: 0 };
    this.run.command(encodeWork([{ op: "attach", name: "", consumer: 1, terms, granted: 0 }]), this.logMs);
    this.run.command(encodeWork([{ op: "detach", name: "", consumer: 1 }]), this.logMs);
  }

  pass(ms: number): void {
    this.clock.nowMs += ms;
    this.logMs += ms;
    this.keeper.upkeep();
  }
}

test("keeper: a new queue is not deleted early by a leader whose clock is far ahead", () => {
  const scene = new Scene();
  scene.logMs += HOUR_MS;
  scene.pass(EXPIRES_MS - 1);
  expect(scene.deleted).toEqual([]);
  scene.pass(1);
  expect(scene.deleted).toMatchObject([{ declare: { do: "deleteQueue", vhost: "/", name: "q", group: GROUP } }]);
  scene.keeper.stop();
});

test("keeper: a queue expires so long after its last use, whatever the log's time does meanwhile", () => {
  const scene = new Scene();
  scene.pass(EXPIRES_MS - 1);
  scene.use();
  scene.pass(1);
  // The next leader's clock is behind: the log's time stands still.
  scene.logMs -= HOUR_MS;
  scene.pass(EXPIRES_MS - 1);
  expect(scene.deleted).toEqual([]);
  scene.pass(1);
  expect(scene.deleted).toHaveLength(1);
  scene.keeper.stop();
});

test("keeper: a leader that was stopped for long and is none any more deletes nothing", () => {
  const scene = new Scene();
  scene.leads = false;
  scene.pass(HOUR_MS);
  expect(scene.deleted).toEqual([]);
  scene.leads = true;
  scene.pass(1);
  expect(scene.deleted).toHaveLength(1);
  scene.keeper.stop();
});

test("keeper: a queue does not expire while a transaction holds of it, and what is taken from a transaction is told to nobody", () => {
  const scene = new Scene();
  const { run } = scene;
  run.records(records(1), scene.logMs);
  const terms = { gateway: 1, priority: 0, leaseMs: 60_000, staysMs: 0 };
  run.command(encodeWork([{ op: "attach", name: "", consumer: 1, terms, granted: 1 }]), scene.logMs);
  const { token } = run.deliveries[0]!;
  const transaction = { group: 9, offset: 4 };
  run.command(encodeWork([{ op: "hold", name: "", consumer: 1, token, from: 0, end: 1, transaction }]), scene.logMs);
  run.command(encodeWork([{ op: "detach", name: "", consumer: 1 }]), scene.logMs);
  scene.pass(HOUR_MS);
  expect(scene.deleted).toEqual([]);
  run.command(encodeTrim(1), scene.logMs);
  expect(run.revokes).toMatchObject([{ gateway: 0, from: 0, end: 1 }]);
  scene.keeper.worked(GROUP, { deliveries: [], revokes: run.revokes, dueMs: -1 });
  expect(scene.told).toEqual([]);
  scene.pass(EXPIRES_MS);
  expect(scene.deleted).toHaveLength(1);
  scene.keeper.stop();
});
