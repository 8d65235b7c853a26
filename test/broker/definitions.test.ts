// Everything that is declared goes out and comes in again: into a fresh cluster, and out of that one byte for byte the same.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { GroupId, NodeId } from "../../src/base/ids.ts";
import { Admin, type AdminComponents } from "../../src/broker/admin.ts";
import { Declaring, type BindingRow } from "../../src/broker/declaring.ts";
import { Definitions } from "../../src/broker/definitions.ts";
import type { TopicConfig } from "../../src/broker/types.ts";
import { Policies } from "../../src/broker/work/policies.ts";
import { Queues, type QueuesComponents } from "../../src/broker/work/queues.ts";
import type { StartAt } from "../../src/broker/work/types.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { encodeInitialize, encodeRegisterNode } from "../../src/machine/catalog/commands.ts";
import { SETTING_NAMES, workConfigOf, type DeclaredSettings } from "../../src/machine/catalog/settings.ts";
import { nodeRow } from "../machine/entries.ts";
import { MachineRun } from "../machine/machine-run.ts";
import { TestClock } from "../support/test-clock.ts";

const NODES = 3;
const { signal } = new AbortController();

/** The use cases of a cluster of which every group is led at once, and whose catalog is a machine. */
class Fresh {
  readonly run = new MachineRun(new CatalogMachine());
  readonly admin: Admin;
  readonly declaring: Declaring;
  readonly queues: Queues;
  readonly definitions: Definitions;

  constructor() {
    this.run.command(encodeInitialize("test"));
    for (let node = 1; node <= NODES; node++) this.run.command(encodeRegisterNode(nodeRow(node)));
    const catalog = this.run.machine;
    const clock = new TestClock();
    const policies = new Policies(catalog);
    const viewIsCurrent = (): Promise<void> => Promise.resolve();
    const router = {
      catalog: (command: Uint8Array, done: (error: null, code: number, value: number, detail: Uint8Array | null) => void): void => {
        const { code, value } = this.run.command(command);
        done(null, code, value, this.run.details.at(-1) ?? null);
      },
      leader: () => Promise.resolve(1 as NodeId),
    };
    const caughtUp = (): Promise<void> => Promise.resolve();
    this.admin = new Admin({ router, catalog, clock, isAlive: () => true, founders: new Set(), caughtUp } as unknown as AdminComponents);
    this.declaring = new Declaring({ catalog, admin: this.admin, router, clock, viewIsCurrent } as unknown as ConstructorParameters<
      typeof Declaring
    >[0]);
    // Every leader goes by the newest catalog.
    const look = (group: GroupId, { subscription }: { subscription: string }): Promise<object> => {
      const { topic } = catalog.group(group)!;
      const settings = topic.queue ?? topic.works.find(({ name }) => name === subscription)!.settings;
      return Promise.resolve({ config: workConfigOf(policies.settingsOf(topic, settings)) });
    };
    this.queues = new Queues({
      catalog,
      admin: this.admin,
      policies,
      clock,
      inspector: { look, begun: () => Promise.resolve() },
      sure: viewIsCurrent,
      viewIsCurrent,
    } as unknown as QueuesComponents);
    this.definitions = new Definitions({
      catalog,
      admin: this.admin,
      declaring: this.declaring,
      queues: this.queues,
      viewIsCurrent,
    });
  }
}

const name = fc.stringMatching(/^[a-z][A-Za-z0-9._-]{0,8}$/);
const text = fc.string({ maxLength: 8 }).filter((value) => !value.includes("\0"));
const small = fc.nat(1_000);
const settingsOf = (isQueue: boolean): fc.Arbitrary<DeclaredSettings> =>
  fc.record(
    {
      deliveryLimit: small,
      backOff: fc.constantFrom("fixed" as const, "linear" as const, "exponential" as const),
      backOffMs: small,
      backOffMaxMs: small,
      singleActive: fc.boolean(),
      keyOrder: fc.boolean(),
      ttlMs: small,
      maxMessages: small,
      maxBytes: small,
      overflow: fc.constantFrom("drop-head" as const, "reject-publish" as const),
      deadLetterExchange: fc.option(fc.oneof(fc.constant(""), name)),
      deadLetterKey: fc.option(text),
      ...(isQueue ? { expiresMs: small } : {}),
    },
    { requiredKeys: [] },
  );
const replicas = fc.integer({ min: 1, max: NODES });
const durability = fc.constantFrom(1 as const, 2 as const, 3 as const);
const config: fc.Arbitrary<TopicConfig> = fc.record({
  durability,
  retentionMs: small,
  retentionBytes: small,
  flushIntervalMs: small,
  flushMessages: small,
  retentionSchedule: fc.constantFrom("", "0 4 * * *", "*/5 * * * * *"),
  retentionTimeZone: fc.constantFrom("", "Europe/Berlin"),
  retentionPolicy: fc.constantFrom(1 as const, 2 as const),
});
const start: fc.Arbitrary<StartAt> = fc.record({ from: fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const), value: small });
const unique = <T extends { name: string }>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
  fc.uniqueArray(one, { maxLength: 4, selector: (value) => value.name });

const declaredOnes = fc.record({
  vhosts: unique(fc.record({ name })),
  exchanges: unique(
    fc.record({
      name,
      type: fc.constantFrom("direct" as const, "fanout" as const, "topic" as const, "headers" as const, "consistentHash" as const),
      alternate: fc.constantFrom("", "amq.fanout", "nowhere"),
    }),
  ),
  topics: unique(
    fc.record({
      name,
      partitions: fc.integer({ min: 1, max: 4 }),
      replicas,
      config,
      works: unique(fc.record({ name, settings: settingsOf(false), start })),
    }),
  ),
  queues: unique(fc.record({ name, replicas, durability, settings: settingsOf(true) })),
  bindings: fc.array(
    fc.record({
      source: fc.nat(10),
      destination: fc.nat(10),
      isExchange: fc.boolean(),
      key: text,
      match: fc.constantFrom("all" as const, "any" as const, "allX" as const, "anyX" as const),
      headers: fc.uniqueArray(
        fc.tuple(
          text.filter((one) => one !== "x-match"),
          fc.option(text),
        ),
        { maxLength: 3, selector: ([one]) => one },
      ),
    }),
    { maxLength: 8 },
  ),
  policies: unique(fc.record({ name, pattern: fc.constantFrom("", "^a", "b|c"), priority: fc.integer(), settings: settingsOf(true) })),
  schedules: unique(
    fc.record({
      name,
      cron: fc.constantFrom("* * * * *", "0 0 4 * * *"),
      timeZone: fc.constantFrom("", "Asia/Tokyo"),
      exchange: fc.constantFrom("", "amq.topic"),
      routingKey: text,
      records: fc.constantFrom("0a00", "0a03120161"),
      isPaused: fc.boolean(),
    }),
  ),
});
type Declared = typeof declaredOnes extends fc.Arbitrary<infer T> ? T : never;

/** All of it in every vhost. Topics and queues share one space of names. */
async function declareAll(fresh: Fresh, all: Declared): Promise<void> {
  const { admin, declaring, queues } = fresh;
  for (const vhost of all.vhosts) await declaring.createVhost(vhost.name, signal);
  for (const vhost of ["/", ...all.vhosts.map((one) => one.name)]) {
    for (const exchange of all.exchanges) await declaring.createExchange({ vhost, ...exchange }, signal);
    for (const { works, ...topic } of all.topics) {
      await admin.create({ vhost, ...topic }, signal);
      for (const work of works) await queues.createWork({ vhost, topic: topic.name, ...work }, signal);
    }
    const taken = new Set(all.topics.map((topic) => topic.name));
    const own = all.queues.filter((queue) => !taken.has(queue.name));
    for (const queue of own) await queues.create({ vhost, ...queue }, signal);
    const exchanges = [...all.exchanges.map((one) => one.name), "amq.headers"];
    const streams = [...taken, ...own.map((queue) => queue.name)];
    for (const { source, destination, isExchange, ...binding } of all.bindings) {
      const to = isExchange ? exchanges : streams;
      if (to.length === 0) continue;
      const [from, target] = [exchanges[source % exchanges.length]!, to[destination % to.length]!];
      const isHash = all.exchanges.some((one) => one.name === from && one.type === "consistentHash");
      const row = { vhost, source: from, destination: target, ...binding, ...(isHash ? { key: "7" } : {}) };
      await declaring.createBinding({ ...row, destinationKind: isExchange ? "exchange" : "queue" } satisfies BindingRow, signal);
    }
    for (const policy of all.policies) await declaring.setPolicy({ vhost, ...policy }, signal);
    for (const schedule of all.schedules) await declaring.setSchedule({ vhost, ...schedule, id: 0 }, signal);
  }
}

/** The catalog's objects without what is not declared: where replicas lie, and when something was made. */
function declaredIn({ run }: Fresh): unknown {
  const { declarations } = run.machine;
  const topics = [...run.machine.topicsAfter({ vhost: "", name: "" })].map((topic) => ({
    ...withoutLife(topic),
    partitions: topic.partitions.length,
    works: topic.works.map(withoutLife),
  }));
  const tables = ["vhosts", "exchanges", "bindings", "policies", "schedules"] as const;
  return { topics, ...Object.fromEntries(tables.map((table) => [table, [...declarations[table].after("")].map(withoutLife)])) };
}

function withoutLife(row: object): object {
  return Object.fromEntries(Object.entries(row).filter(([field]) => !["createdMs", "configuredMs", "id"].includes(field)));
}

test("definitions: every kind of object with every setting survives the way out and in, byte for byte", async () => {
  await fc.assert(
    fc.asyncProperty(declaredOnes, async (all) => {
      const [first, second] = [new Fresh(), new Fresh()];
      await declareAll(first, all);
      const exported = await first.definitions.export("");
      const { problems } = await second.definitions.import(exported, signal);
      expect(problems).toEqual([]);
      expect(await second.definitions.export("")).toBe(exported);
      // What no export had would be missing from both.
      expect(declaredIn(second)).toEqual(declaredIn(first));
      const again = await second.definitions.import(exported, signal);
      expect(again.problems).toEqual([]);
    }),
    { numRuns: 60 },
  );
}, 60_000);

test("definitions: no setting of queues, and no field of a configuration, is left out of what is tried here", () => {
  const settings = Object.keys(
    fc.sample(
      settingsOf(true).filter((one) => Object.keys(one).length === SETTING_NAMES.length),
      1,
    )[0]!,
  );
  expect(settings.sort()).toEqual([...SETTING_NAMES].sort());
});

test("definitions: what they have and nobody knows is a problem that is named", async () => {
  const topic = { vhost: "/", name: "t", partitions: 1, replicas: 1 };
  const queue = { vhost: "/", name: "q", arguments: {} };
  const wrong: [field: string, item: object, problem: string][] = [
    ["flotilla_topics", { ...topic, config: { retentionSceedule: "" } }, "config.retentionSceedule is not known here"],
    ["flotilla_topics", { ...topic, config: { retentionSchedule: 5 } }, "are text"],
    ["flotilla_topics", { ...topic, replicas: "2" }, "replicas must be a number"],
    ["flotilla_topics", { ...topic, config: {}, subscriptions: [{ name: "s", start: { from: 7 } }] }, "start says"],
    ["queues", { ...queue, flotilla_settings: { ttl: 0 } }, "flotilla_settings.ttl is not known here"],
    ["queues", { ...queue, flotilla_settings: { ttlMs: null } }, "ttlMs cannot be null"],
    ["queues", { ...queue, flotilla_durability: 4 }, "durability must be"],
    ["queues", { ...queue, flotilla_replicas: 9 }, "replicas must be"],
  ];
  for (const [field, item, problem] of wrong) {
    const { problems } = await new Fresh().definitions.import(JSON.stringify({ [field]: [item] }), signal);
    expect(problems).toEqual([expect.stringContaining(problem)]);
  }
});

test("declaring: any of no headers is another binding than all of no headers, and x-match is no header", async () => {
  const { declaring } = new Fresh();
  const binding = { vhost: "/", source: "amq.headers", destination: "amq.fanout", destinationKind: "exchange" as const, key: "" };
  expect(await declaring.createBinding({ ...binding, match: "all", headers: [] }, signal)).toBe(true);
  expect(await declaring.createBinding({ ...binding, match: "any", headers: [] }, signal)).toBe(true);
  await declaring.deleteBinding({ ...binding, match: "all", headers: [] }, signal);
  const { bindings } = await declaring.bindings({ vhost: "/", source: "", destination: "", after: "", max: 10 });
  expect(bindings.map(({ match }) => match)).toEqual(["any"]);
  const reserved = declaring.createBinding({ ...binding, match: "all", headers: [["x-match", "any"]] }, signal);
  await expect(reserved).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});
