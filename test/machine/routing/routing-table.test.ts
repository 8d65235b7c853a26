import { expect, test } from "vitest";
import type { ExchangeType } from "../../../src/machine/routing/exchange.ts";
import type { HeadersBinding, HeaderValue } from "../../../src/machine/routing/headers-match.ts";
import { RoutingTable } from "../../../src/machine/routing/routing-table.ts";

const NO_HEADERS: HeadersBinding = { match: "all", headers: new Map() };

class Bench {
  readonly table = new RoutingTable();

  exchange(name: string, type: ExchangeType, alternate = ""): this {
    this.table.addExchange({ name, type, alternate });
    return this;
  }

  queues(...names: string[]): this {
    for (const name of names) this.table.addQueue(name);
    return this;
  }

  bind(source: string, destination: string, key = "", headers = NO_HEADERS): this {
    this.table.bind({ source, destination, destinationKind: destination.startsWith("x.") ? "exchange" : "queue", key, headers });
    return this;
  }

  route(exchange: string, key = "", headers: Record<string, HeaderValue> = {}): string[] | undefined {
    return this.table.route(exchange, { key, headers: new Map(Object.entries(headers)) });
  }
}

test("routing: direct by the key, fanout to all, topic by patterns, each queue once", () => {
  const bench = new Bench().queues("a", "b", "c").exchange("d", "direct").exchange("f", "fanout").exchange("t", "topic");
  bench.bind("d", "a", "red").bind("d", "b", "red").bind("d", "b", "blue");
  bench.bind("f", "a", "ignored").bind("f", "a", "too").bind("f", "c");
  bench.bind("t", "a", "eu.*").bind("t", "a", "#").bind("t", "b", "*.new.#");
  expect(bench.route("d", "red")).toEqual(["a", "b"]);
  expect(bench.route("d", "green")).toEqual([]);
  expect(bench.route("f", "whatever")).toEqual(["a", "c"]);
  expect(bench.route("t", "eu.new")).toEqual(["a", "b"]);
  expect(bench.route("t", "")).toEqual(["a"]);
  expect(bench.route("nowhere")).toBeUndefined();
});

test("routing: the default exchange goes to the queue of that name", () => {
  const bench = new Bench().queues("orders");
  expect(bench.route("", "orders")).toEqual(["orders"]);
  expect(bench.route("", "other")).toEqual([]);
});

test("routing: headers, all or any, with and without those that begin with x-", () => {
  const bench = new Bench().queues("all", "any", "x", "there").exchange("h", "headers");
  const of = (match: HeadersBinding["match"], headers: Record<string, HeaderValue>): HeadersBinding => ({
    match,
    headers: new Map(Object.entries(headers)),
  });
  bench.bind("h", "all", "", of("all", { kind: "pdf", pages: 3, "x-ignored": 1 }));
  bench.bind("h", "any", "", of("any", { kind: "pdf", pages: 3 }));
  bench.bind("h", "x", "", of("allX", { "x-lane": "fast" }));
  bench.bind("h", "there", "", of("all", { trace: null }));
  expect(bench.route("h", "", { kind: "pdf", pages: 3 })).toEqual(["all", "any"]);
  expect(bench.route("h", "", { kind: "pdf", pages: "3" })).toEqual(["any"]);
  expect(bench.route("h", "", { "x-lane": "fast" })).toEqual(["x"]);
  expect(bench.route("h", "", { trace: 0 })).toEqual(["there"]);
  expect(bench.route("h")).toEqual([]);
});

test("routing: exchanges bound to exchanges, in a circle too, and the alternate for what nobody takes", () => {
  const bench = new Bench()
    .queues("a", "b", "lost")
    .exchange("x.1", "topic", "x.lost")
    .exchange("x.2", "direct")
    .exchange("x.lost", "fanout");
  bench.bind("x.1", "x.2", "eu.#").bind("x.2", "x.1", "eu.new").bind("x.2", "a", "eu.new").bind("x.1", "b", "*.new").bind("x.lost", "lost");
  expect(bench.route("x.1", "eu.new")).toEqual(["a", "b"]);
  expect(bench.route("x.1", "us.old")).toEqual(["lost"]);
  // It was routed, though to nobody in the end: RabbitMQ asks the alternate of the exchange that had no binding, and so do we.
  expect(bench.route("x.1", "eu.old")).toEqual([]);
  expect(bench.table.ways("x.1", { key: "eu.new", headers: new Map() })).toEqual([
    { queue: "a", exchanges: ["x.1", "x.2"] },
    { queue: "b", exchanges: ["x.1"] },
  ]);
});

test("routing: a hash gives each key to one queue, by weight, and moves few keys when a queue comes", () => {
  const bench = new Bench().queues("a", "b", "c").exchange("h", "consistentHash");
  bench.bind("h", "a", "1").bind("h", "b", "3");
  const keys = Array.from({ length: 4_000 }, (_, at) => `key ${at}`);
  const before = keys.map((key) => bench.route("h", key)![0]!);
  const share = before.filter((queue) => queue === "b").length / keys.length;
  expect(share).toBeGreaterThan(0.65);
  expect(share).toBeLessThan(0.85);
  bench.bind("h", "c", "1");
  const moved = keys.filter((key, at) => bench.route("h", key)![0] !== before[at]);
  expect(moved.length / keys.length).toBeLessThan(0.3);
  expect(new Set(moved.map((key) => bench.route("h", key)![0]))).toEqual(new Set(["c"]));
});

test("routing: what is unbound or deleted gets nothing more", () => {
  const bench = new Bench().queues("a", "b").exchange("f", "fanout");
  bench.bind("f", "a").bind("f", "b");
  bench.table.unbind({ source: "f", destination: "a", destinationKind: "queue", key: "", headers: NO_HEADERS });
  expect(bench.route("f")).toEqual(["b"]);
  bench.table.removeQueue("b");
  expect(bench.route("f")).toEqual([]);
  bench.table.removeExchange("f");
  expect(bench.route("f")).toBeUndefined();
});
