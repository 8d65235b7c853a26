import { expect, test } from "vitest";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import {
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_OK,
  CATALOG_UNKNOWN_OBJECT,
} from "../../src/machine/catalog/codes.ts";
import {
  encodeCreateTopic,
  encodeDeclare,
  encodeDeleteTopic,
  encodeExpandTopic,
  encodeRegisterNode,
} from "../../src/machine/catalog/commands.ts";
import type { BindingRow } from "../../src/machine/catalog/declaration-rows.ts";
import type { Declare } from "../../src/machine/catalog/declare.ts";
import { effective, type DeclaredSettings } from "../../src/machine/catalog/settings.ts";
import { CONFIG, nodeRow, placed } from "./entries.ts";
import { MachineRun, type Reply } from "./machine-run.ts";

class Bench {
  readonly run = new MachineRun(new CatalogMachine());

  constructor() {
    this.run.command(encodeRegisterNode(nodeRow(1)));
  }

  declare(declare: Declare): Reply {
    return this.run.command(encodeDeclare(declare));
  }

  queue(name: string, settings: DeclaredSettings = {}, vhost = "/"): Reply {
    return this.run.command(encodeCreateTopic({ vhost, name, replicas: 1, config: CONFIG, placement: placed([1]), queue: settings }));
  }

  exchange(name: string, type: "direct" | "topic" | "consistentHash" = "direct", alternate = "", vhost = "/"): number {
    return this.declare({ do: "createExchange", row: { vhost, name, type, alternate, createdMs: 1 } }).code;
  }

  binding(source: string, destination: string, more: Partial<BindingRow> = {}): BindingRow {
    return { vhost: "/", source, destination, destinationKind: "queue", key: "", match: "all", headers: [], ...more };
  }

  bind(source: string, destination: string, more: Partial<BindingRow> = {}): number {
    return this.declare({ do: "createBinding", row: this.binding(source, destination, more) }).code;
  }

  route(exchange: string, key: string, vhost = "/"): string[] | undefined {
    return this.run.machine.declarations.routingOf(vhost).route(exchange, { key, headers: new Map() });
  }

  /** The same after a restart: routing is made anew from the rows. */
  restarted(): Bench {
    const other = new Bench();
    other.run.machine.restore(this.run.machine.snapshot());
    expect(other.run.machine.snapshot()).toEqual(this.run.machine.snapshot());
    return other;
  }
}

test("declarations: a queue and a topic share one space of names, and declaring alike is no error", () => {
  const bench = new Bench();
  expect(bench.queue("q", { ttlMs: 5 }).code).toBe(CATALOG_OK);
  expect(bench.queue("q", { ttlMs: 5 }).code).toBe(CATALOG_EXISTS_SAME);
  expect(bench.queue("q", { ttlMs: 6 })).toMatchObject({
    code: CATALOG_EXISTS_DIFFERENT,
    detail: "queue q exists with other settings: ttlMs is 5, not 6",
  });
  expect(bench.queue("q", { maxMessages: 1 }).detail).toContain("ttlMs is 5, not unset; maxMessages is unset, not 1");
  const topic = { vhost: "/", name: "q", replicas: 1, config: CONFIG, placement: placed([1]) };
  expect(bench.run.command(encodeCreateTopic(topic))).toMatchObject({ code: CATALOG_EXISTS_DIFFERENT });
  expect(bench.declare({ do: "alterQueue", vhost: "/", name: "q", settings: { ttlMs: 6 } }).code).toBe(CATALOG_OK);
  expect(bench.restarted().queue("q", { ttlMs: 6 }).code).toBe(CATALOG_EXISTS_SAME);
});

test("declarations: what is bound is routed, also after a restart, and no more when it is unbound or gone", () => {
  const bench = new Bench();
  bench.queue("a");
  bench.queue("b");
  expect(bench.exchange("x", "topic", "amq.fanout")).toBe(CATALOG_OK);
  expect(bench.bind("x", "a", { key: "eu.#" })).toBe(CATALOG_OK);
  expect(bench.bind("x", "a", { key: "eu.#" })).toBe(CATALOG_EXISTS_SAME);
  expect(bench.bind("x", "b", { key: "#.new" })).toBe(CATALOG_OK);
  expect(bench.bind("amq.fanout", "b")).toBe(CATALOG_OK);
  for (const one of [bench, bench.restarted()]) {
    expect(one.route("x", "eu.new")).toEqual(["a", "b"]);
    expect(one.route("x", "us.old")).toEqual(["b"]);
    expect(one.route("", "a")).toEqual(["a"]);
  }
  expect(bench.declare({ do: "deleteBinding", row: bench.binding("x", "a", { key: "eu.#" }) }).code).toBe(CATALOG_OK);
  expect(bench.declare({ do: "deleteBinding", row: bench.binding("x", "a", { key: "eu.#" }) }).code).toBe(CATALOG_UNKNOWN_OBJECT);
  expect(bench.route("x", "eu.new")).toEqual(["b"]);
  bench.run.command(encodeDeleteTopic({ vhost: "/", name: "b" }));
  expect([...bench.run.machine.declarations.bindings.after("")]).toEqual([]);
  expect(bench.restarted().route("x", "eu.new")).toEqual([]);
});

test.each<{ name: string; say: (bench: Bench) => number; code: number }>([
  { name: "binding from an exchange that is not there", say: (bench) => bench.bind("no", "q"), code: CATALOG_UNKNOWN_OBJECT },
  { name: "binding to a queue that is not there", say: (bench) => bench.bind("amq.direct", "no"), code: CATALOG_UNKNOWN_OBJECT },
  { name: "binding to the default exchange", say: (bench) => bench.bind("", "q"), code: CATALOG_CONFLICT },
  { name: "an exchange of a kept name", say: (bench) => bench.exchange("amq.mine"), code: CATALOG_INVALID_NAME },
  { name: "a predeclared exchange of another type", say: (bench) => bench.exchange("amq.direct", "topic"), code: CATALOG_EXISTS_DIFFERENT },
  {
    name: "an exchange again with another alternate",
    say: (bench) => bench.exchange("x", "direct", "amq.fanout"),
    code: CATALOG_EXISTS_DIFFERENT,
  },
  {
    name: "deleting an exchange in use with if-unused",
    say: (bench) => bench.declare({ do: "deleteExchange", vhost: "/", name: "x", ifUnused: true }).code,
    code: CATALOG_CONFLICT,
  },
  {
    name: "deleting a predeclared exchange",
    say: (bench) => bench.declare({ do: "deleteExchange", vhost: "/", name: "amq.topic", ifUnused: false }).code,
    code: CATALOG_CONFLICT,
  },
  { name: "deleting the first vhost", say: (bench) => bench.declare({ do: "deleteVhost", name: "/" }).code, code: CATALOG_CONFLICT },
  {
    name: "a weight that is none",
    say: (bench) => {
      bench.exchange("h", "consistentHash");
      return bench.bind("h", "q", { key: "lots" });
    },
    code: CATALOG_CONFLICT,
  },
])("declarations: $name is refused and changes nothing", ({ say, code }) => {
  const bench = new Bench();
  bench.queue("q");
  bench.exchange("x");
  bench.bind("x", "q");
  expect(say(bench)).toBe(code);
  expect(bench.route("x", "")).toEqual(["q"]);
});

test("declarations: an exchange gets another alternate, and keeps its bindings, its type and its age", () => {
  const bench = new Bench();
  for (const queue of ["a", "b"]) bench.queue(queue);
  bench.exchange("x", "topic");
  bench.bind("x", "a", { key: "eu.#" });
  bench.bind("amq.fanout", "b");
  const update = (name: string, alternate: string): number => bench.declare({ do: "updateExchange", vhost: "/", name, alternate }).code;
  expect(bench.route("x", "us.new")).toEqual([]);
  expect(update("x", "amq.fanout")).toBe(CATALOG_OK);
  for (const one of [bench, bench.restarted()]) {
    expect(one.route("x", "us.new")).toEqual(["b"]);
    expect(one.route("x", "eu.new")).toEqual(["a"]);
    expect(one.run.machine.declarations.exchange("/", "x")).toMatchObject({ type: "topic", alternate: "amq.fanout", createdMs: 1 });
  }
  expect(update("x", "")).toBe(CATALOG_OK);
  expect(bench.route("x", "us.new")).toEqual([]);
  expect(update("nope", "x")).toBe(CATALOG_UNKNOWN_OBJECT);
  expect(update("amq.topic", "x")).toBe(CATALOG_CONFLICT);
});

test("declarations: a vhost goes with all that is in it, and with nothing else", () => {
  const bench = new Bench();
  expect(bench.declare({ do: "createVhost", row: { name: "shop", createdMs: 1 } }).code).toBe(CATALOG_OK);
  expect(bench.declare({ do: "createVhost", row: { name: "shop", createdMs: 2 } }).code).toBe(CATALOG_EXISTS_SAME);
  bench.queue("q", {}, "shop");
  bench.queue("q");
  bench.exchange("x", "direct", "", "shop");
  bench.bind("x", "q", { vhost: "shop" });
  expect(bench.route("x", "", "shop")).toEqual(["q"]);
  expect(bench.declare({ do: "deleteVhost", name: "shop" }).code).toBe(CATALOG_OK);
  expect(bench.run.machine.topic("shop", "q")).toBeUndefined();
  expect(bench.route("x", "", "shop")).toBeUndefined();
  expect(bench.run.machine.topic("/", "q")).toBeDefined();
  bench.restarted();
});

test("declarations: work subscriptions of a topic are created, changed and deleted", () => {
  const bench = new Bench();
  bench.run.command(encodeCreateTopic({ vhost: "/", name: "t", replicas: 1, config: CONFIG, placement: placed([1]) }));
  const row = { name: "w", settings: { ttlMs: 5 }, from: 3 as const, value: 0, createdMs: 1, partitions: 77 };
  const create = (settings: DeclaredSettings): number =>
    bench.declare({ do: "createWork", vhost: "/", name: "t", row: { ...row, settings } }).code;
  expect([create({ ttlMs: 5 }), create({ ttlMs: 5 }), create({ ttlMs: 6 })]).toEqual([
    CATALOG_OK,
    CATALOG_EXISTS_SAME,
    CATALOG_EXISTS_DIFFERENT,
  ]);
  bench.declare({ do: "alterWork", vhost: "/", name: "t", work: "w", settings: { ttlMs: 7 } });
  // So many there were: a partition that comes later is read from its first record on, wherever the subscription was to begin.
  bench.run.command(encodeExpandTopic({ vhost: "/", name: "t", expected: 1, placement: placed([1]) }));
  expect(bench.restarted().run.machine.topic("/", "t")!.works).toMatchObject([
    { name: "w", settings: { ttlMs: 7 }, from: 3, partitions: 1 },
  ]);
  expect(bench.declare({ do: "deleteWork", vhost: "/", name: "t", work: "w" }).code).toBe(CATALOG_OK);
  expect(bench.declare({ do: "deleteWork", vhost: "/", name: "t", work: "w" }).code).toBe(CATALOG_UNKNOWN_OBJECT);
});

test("declarations: of schedules that are made in one millisecond each has an id of its own, which it keeps", () => {
  const bench = new Bench();
  const row = { vhost: "/", cron: "* * * * *", timeZone: "", exchange: "amq.direct", routingKey: "", records: "00", isPaused: false };
  const set = (one: Bench, name: string, id: number): number => one.declare({ do: "setSchedule", row: { ...row, name, id } }).code;
  const ids = (one: Bench): [string, number][] => [...one.run.machine.declarations.schedules.after("")].map(({ name, id }) => [name, id]);
  for (const name of ["a", "b", "c"]) expect(set(bench, name, 5)).toBe(CATALOG_OK);
  set(bench, "b", 9);
  bench.declare({ do: "deleteSchedule", vhost: "/", name: "a" });
  const other = bench.restarted();
  for (const one of [bench, other]) {
    set(one, "d", 6);
    expect(ids(one)).toEqual([
      ["b", 6],
      ["c", 7],
      ["d", 8],
    ]);
  }
  expect(other.run.machine.snapshot()).toEqual(bench.run.machine.snapshot());
});

test("settings: what was said counts before policies, and these before the defaults", () => {
  const settings = effective({ ttlMs: 1 }, { ttlMs: 2, maxMessages: 3 });
  expect([settings.ttlMs, settings.maxMessages, settings.overflow]).toEqual([1, 3, "drop-head"]);
});
