import fc from "fast-check";
import { expect, test } from "vitest";
import { DecodeError } from "../../src/base/bytes.ts";
import { replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { NAME_LENGTH_MAX, NODE_TEXT_LENGTH_MAX, PARTITIONS_PER_TOPIC_MAX, REPLICAS_MAX } from "../../src/base/limits.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import {
  CATALOG_BAD_COMMAND,
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_OK,
  CATALOG_STORE_MISMATCH,
  CATALOG_TOO_MANY,
  CATALOG_UNKNOWN_GROUP,
  CATALOG_UNKNOWN_NODE,
  CATALOG_UNKNOWN_TOPIC,
} from "../../src/machine/catalog/codes.ts";
import {
  encodeDeleteTopic,
  encodeDrainNode,
  encodeExpandTopic,
  encodeForgetNode,
  encodeInitialize,
  encodePreferLeader,
  encodeRegisterNode,
  encodeRenewReplicas,
  encodeUpdateTopic,
} from "../../src/machine/catalog/commands.ts";
import { machineFor } from "../../src/machine/registry.ts";
import { CONFIG, forget, nodeRow, placed } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";
import { cluster, create, FIRST, placing } from "./catalog-bench.ts";

const many = (partitions: number): NodeId[][] => placed(...Array.from({ length: partitions }, () => [1, 2]));
const longName = "n".repeat(NAME_LENGTH_MAX);

/** Each on `cluster()`. What is refused changes nothing; the details are for people, only a word of each counts. */
const cases: readonly { name: string; command: Uint8Array; code: number; detail?: string; value?: number }[] = [
  { name: "initialize again", command: encodeInitialize("blue"), code: CATALOG_OK },
  { name: "initialize as another cluster", command: encodeInitialize("red"), code: CATALOG_CONFLICT, detail: "blue" },
  { name: "initialize without an id", command: encodeInitialize(""), code: CATALOG_BAD_COMMAND },
  { name: "register a new node", command: encodeRegisterNode(nodeRow(4)), code: CATALOG_OK },
  {
    name: "register a node that started again",
    command: encodeRegisterNode(nodeRow(2, { incarnation: 2, clientEndpoint: "new:1" })),
    code: CATALOG_OK,
  },
  {
    name: "register a node with another store",
    command: encodeRegisterNode(nodeRow(2, { storeId: "other", incarnation: 9 })),
    code: CATALOG_STORE_MISMATCH,
    detail: "store-2",
  },
  {
    name: "register an earlier start of a node",
    command: encodeRegisterNode(nodeRow(2, { incarnation: 0 })),
    code: CATALOG_CONFLICT,
    detail: "later start",
    value: 1,
  },
  { name: "drain a node", command: encodeDrainNode({ node: 2 as NodeId, drained: true }), code: CATALOG_OK },
  { name: "drain a node that nobody knows", command: encodeDrainNode({ node: 9 as NodeId, drained: true }), code: CATALOG_UNKNOWN_NODE },
  { name: "forget a node that holds replicas", command: encodeForgetNode(forget(2)), code: CATALOG_CONFLICT, detail: "2 replicas" },
  { name: "forget a node that nobody knows", command: encodeForgetNode(forget(9)), code: CATALOG_UNKNOWN_NODE },
  { name: "prefer a node without a replica", command: encodePreferLeader({ group: FIRST, node: 3 as NodeId }), code: CATALOG_CONFLICT },
  {
    name: "prefer a leader of a group that is not there",
    command: encodePreferLeader({ group: 9 as GroupId, node: 1 as NodeId }),
    code: CATALOG_UNKNOWN_GROUP,
  },
  { name: "place a group by an older view", command: placing([2, 1], [1, 3]), code: CATALOG_CONFLICT },
  { name: "place a group on a node twice", command: placing([1, 2], [3, 3]), code: CATALOG_BAD_COMMAND },
  { name: "place a group on a node that nobody knows", command: placing([1, 2], [1, 9]), code: CATALOG_UNKNOWN_NODE },
  { name: "place a group where it is", command: placing([1, 2], [1, 2]), code: CATALOG_OK },
  {
    name: "renew a replica that is not placed there",
    command: encodeRenewReplicas({ node: 1 as NodeId, damaged: [{ group: FIRST, replica: replicaId(1 as NodeId, 4) }] }),
    code: CATALOG_CONFLICT,
  },
  {
    name: "renew a replica of another node",
    command: encodeRenewReplicas({ node: 1 as NodeId, damaged: [{ group: FIRST, replica: replicaId(2 as NodeId, 0) }] }),
    code: CATALOG_CONFLICT,
  },
  { name: "register node 0", command: encodeRegisterNode(nodeRow(0)), code: CATALOG_BAD_COMMAND },
  { name: "register node 1024", command: encodeRegisterNode(nodeRow(1024)), code: CATALOG_BAD_COMMAND },
  {
    name: "register a node with a text too long",
    command: encodeRegisterNode(nodeRow(4, { zone: "z".repeat(NODE_TEXT_LENGTH_MAX + 1) })),
    code: CATALOG_BAD_COMMAND,
  },
  { name: "create the same topic", command: create({ placement: placed([3, 1], [1, 2]) }), code: CATALOG_EXISTS_SAME },
  { name: "create it with more partitions", command: create({ placement: many(3) }), code: CATALOG_EXISTS_DIFFERENT, detail: "orders" },
  { name: "create it with more replicas", command: create({ replicas: 3 }), code: CATALOG_EXISTS_DIFFERENT },
  {
    name: "create it with another configuration",
    command: create({ config: { ...CONFIG, flushMessages: 1 } }),
    code: CATALOG_EXISTS_DIFFERENT,
  },
  { name: "create it in another vhost", command: create({ vhost: "shop" }), code: CATALOG_OK },
  { name: "create the longest name", command: create({ name: longName }), code: CATALOG_OK },
  { name: "create a longer name", command: create({ name: `${longName}n` }), code: CATALOG_INVALID_NAME },
  { name: "create no name", command: create({ name: "" }), code: CATALOG_INVALID_NAME },
  { name: "create a path", command: create({ name: "../x" }), code: CATALOG_INVALID_NAME },
  { name: "create a name with a newline at its end", command: create({ name: "orders\n" }), code: CATALOG_INVALID_NAME },
  { name: "create a name with a NUL", command: create({ name: "a\0b" }), code: CATALOG_INVALID_NAME },
  { name: "create __proto__", command: create({ name: "__proto__" }), code: CATALOG_OK },
  { name: "create constructor in __proto__", command: create({ vhost: "__proto__", name: "constructor" }), code: CATALOG_OK },
  { name: "create in no vhost", command: create({ vhost: "" }), code: CATALOG_INVALID_NAME, detail: "vhost" },
  { name: "create in a vhost with a slash", command: create({ vhost: "/a" }), code: CATALOG_INVALID_NAME },
  {
    name: "create on a node that nobody knows",
    command: create({ name: "x", placement: placed([1, 2], [2, 9]) }),
    code: CATALOG_UNKNOWN_NODE,
    detail: "node 9",
  },
  {
    name: "create twice on one node",
    command: create({ name: "x", placement: placed([1, 1]) }),
    code: CATALOG_BAD_COMMAND,
    detail: "twice",
  },
  { name: "create on too few nodes", command: create({ name: "x", replicas: 3 }), code: CATALOG_CONFLICT, detail: "2 nodes instead of 3" },
  { name: "create without partitions", command: create({ name: "x", placement: [] }), code: CATALOG_BAD_COMMAND },
  {
    name: "create as many partitions as may be",
    command: create({ name: "x", placement: many(PARTITIONS_PER_TOPIC_MAX) }),
    code: CATALOG_OK,
  },
  {
    name: "create more partitions than may be",
    command: create({ name: "x", placement: many(PARTITIONS_PER_TOPIC_MAX + 1) }),
    code: CATALOG_BAD_COMMAND,
  },
  {
    name: "create more replicas than may be",
    command: create({
      name: "x",
      replicas: REPLICAS_MAX + 1,
      placement: placed(Array.from({ length: REPLICAS_MAX + 1 }, (_, at) => at + 1)),
    }),
    code: CATALOG_BAD_COMMAND,
  },
  {
    name: "create with an unknown durability",
    command: create({ name: "x", config: { ...CONFIG, durability: 4 as 3 } }),
    code: CATALOG_BAD_COMMAND,
  },
  { name: "update", command: encodeUpdateTopic({ vhost: "/", name: "orders", config: { ...CONFIG, retentionMs: 5 } }), code: CATALOG_OK },
  {
    name: "update what is not there",
    command: encodeUpdateTopic({ vhost: "/", name: "none", config: CONFIG }),
    code: CATALOG_UNKNOWN_TOPIC,
    detail: "none",
  },
  { name: "expand", command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: placed([3, 1]) }), code: CATALOG_OK },
  {
    name: "expand what someone expanded",
    command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 1, placement: placed([3, 1]) }),
    code: CATALOG_CONFLICT,
    detail: "2 partitions",
  },
  {
    name: "expand by nothing",
    command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: [] }),
    code: CATALOG_BAD_COMMAND,
  },
  {
    name: "expand with other replicas",
    command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: placed([1, 2, 3]) }),
    code: CATALOG_CONFLICT,
  },
  {
    name: "expand beyond the bound",
    command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: many(PARTITIONS_PER_TOPIC_MAX - 1) }),
    code: CATALOG_TOO_MANY,
  },
  {
    name: "expand up to the bound",
    command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: many(PARTITIONS_PER_TOPIC_MAX - 2) }),
    code: CATALOG_OK,
  },
  {
    name: "expand onto a node that nobody knows",
    command: encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: placed([1, 8]) }),
    code: CATALOG_UNKNOWN_NODE,
  },
  {
    name: "expand what is not there",
    command: encodeExpandTopic({ vhost: "/", name: "none", expected: 0, placement: placed([1, 2]) }),
    code: CATALOG_UNKNOWN_TOPIC,
  },
  { name: "delete", command: encodeDeleteTopic({ vhost: "/", name: "orders" }), code: CATALOG_OK },
  { name: "delete what is not there", command: encodeDeleteTopic({ vhost: "other", name: "orders" }), code: CATALOG_UNKNOWN_TOPIC },
  { name: "nothing", command: new Uint8Array(0), code: CATALOG_BAD_COMMAND },
  { name: "a newer format", command: Uint8Array.of(2, 1, 0), code: CATALOG_BAD_COMMAND },
  { name: "an unknown kind", command: Uint8Array.of(1, 99), code: CATALOG_BAD_COMMAND },
  { name: "a byte too many", command: Uint8Array.of(...encodeDeleteTopic({ vhost: "/", name: "orders" }), 0), code: CATALOG_BAD_COMMAND },
];

for (const { name, command, code, detail, value } of cases) {
  test(`catalog: ${name} gives code ${code}`, () => {
    const run = cluster();
    const [before, version, changes] = [run.machine.snapshot(), run.machine.viewVersion, run.changes];
    const reply = run.command(command);
    expect(reply.code).toBe(code);
    expect(reply.detail).toContain(detail ?? "");
    expect(reply.detail.length).toBeLessThan(200);
    const isDone = code === CATALOG_OK;
    expect([run.machine.viewVersion, run.changes, reply.value]).toEqual([
      version + (isDone ? 1 : 0),
      changes + (isDone ? 1 : 0),
      value ?? run.machine.viewVersion,
    ]);
    if (!isDone) expect(run.machine.snapshot()).toEqual(before);
  });
}

test("catalog: a topic is found by name and by group, with the leader's place first", () => {
  const { machine } = cluster();
  expect(machineFor("catalog")).toBeInstanceOf(CatalogMachine);
  const topic = machine.topic("/", "orders")!;
  expect(topic).toEqual({
    vhost: "/",
    name: "orders",
    replicas: 2,
    config: CONFIG,
    createdMs: 0,
    configuredMs: 0,
    queue: null,
    works: [],
    partitions: [
      { group: 1, replicas: [1, 2], founders: [1, 2] },
      { group: 2, replicas: [2, 3], founders: [2, 3] },
    ],
  });
  expect(machine.group(2 as GroupId)).toEqual({ topic, partition: 1 });
  expect([machine.topic("/", "constructor"), machine.topic("__proto__", "orders"), machine.group(3 as GroupId)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
  expect([...machine.topics()]).toEqual([topic]);
});

test("catalog: an expanded topic keeps its partitions, and every group leads to the new row", () => {
  const run = cluster();
  run.command(encodeExpandTopic({ vhost: "/", name: "orders", expected: 2, placement: placed([3, 1]) }));
  const topic = run.machine.topic("/", "orders")!;
  expect(topic.partitions.map(({ group }) => group)).toEqual([1, 2, 3]);
  for (const group of [1, 2, 3]) expect(run.machine.group(group as GroupId)).toEqual({ topic, partition: group - 1 });
});

test("catalog: a topic is as old as the entry that made it, whatever the clock of the node that asked says", () => {
  const run = cluster();
  run.command(create({ name: "late" }), 42);
  expect(run.machine.topic("/", "late")).toMatchObject({ createdMs: 42, configuredMs: 42 });
  run.command(encodeUpdateTopic({ vhost: "/", name: "late", config: CONFIG }), 50);
  expect(run.machine.topic("/", "late")).toMatchObject({ createdMs: 42, configuredMs: 50 });
});

test("catalog: an update changes the named fields, so that two updates do not undo each other", () => {
  const run = cluster();
  const changes = {
    durability: 3,
    retentionMs: 1,
    retentionBytes: 2,
    flushIntervalMs: 3,
    flushMessages: 4,
    retentionSchedule: "0 4 * * *",
    retentionTimeZone: "Europe/Berlin",
    retentionPolicy: 2,
  } as const;
  const { configuredMs } = run.machine.topic("/", "orders")!;
  run.command(
    encodeUpdateTopic({ vhost: "/", name: "orders", config: changes, fields: ["retentionMs", "flushMessages"] }),
    configuredMs + 5,
  );
  expect(run.machine.topic("/", "orders")!.configuredMs).toBe(configuredMs + 5);
  expect(run.machine.topic("/", "orders")!.config).toEqual({ ...CONFIG, retentionMs: 1, flushMessages: 4 });
  run.command(
    encodeUpdateTopic({
      vhost: "/",
      name: "orders",
      config: { ...changes, retentionMs: 9 },
      fields: ["durability", "retentionBytes", "flushIntervalMs", "retentionSchedule", "retentionTimeZone", "retentionPolicy"],
    }),
  );
  expect(run.machine.topic("/", "orders")!.config).toEqual(changes);
  expect(run.machine.group(1 as GroupId)!.topic.config).toEqual(changes);
  run.command(encodeUpdateTopic({ vhost: "/", name: "orders", config: CONFIG }));
  expect(run.machine.topic("/", "orders")!.config).toEqual(CONFIG);
});

test("catalog: a group is deleted only if a command made it and a command deleted it; its number never comes back", () => {
  const run = cluster();
  const states = (): string[] => [0, 1, 2, 3, 4].map((group) => run.machine.groupState(group as GroupId));
  expect(states()).toEqual(["unknown", "live", "live", "unknown", "unknown"]);
  run.command(encodeDeleteTopic({ vhost: "/", name: "orders" }));
  expect(states()).toEqual(["unknown", "deleted", "deleted", "unknown", "unknown"]);
  run.command(create({ placement: placed([1, 2]) }));
  expect(states()).toEqual(["unknown", "deleted", "deleted", "live", "unknown"]);
  const restored = new CatalogMachine();
  restored.restore(run.machine.snapshot());
  expect([1, 3, 4].map((group) => restored.groupState(group as GroupId))).toEqual(["deleted", "live", "unknown"]);
  // A catalog that never saw them does not call them deleted.
  expect(new CatalogMachine().groupState(1 as GroupId)).toBe("unknown");
});

test("catalog: ten thousand groups come and go", () => {
  const run = cluster();
  for (let at = 0; at < 100; at++) expect(run.command(create({ name: `t${at}`, placement: many(100) })).code).toBe(CATALOG_OK);
  const restored = new MachineRun(new CatalogMachine(), run.index);
  restored.machine.restore(run.machine.snapshot());
  for (const { machine } of [run, restored]) {
    expect(machine.group(10_002 as GroupId)).toMatchObject({ topic: { name: "t99" }, partition: 99 });
    expect([...machine.topics()]).toHaveLength(101);
  }
  for (let at = 0; at < 100; at += 2) restored.command(encodeDeleteTopic({ vhost: "/", name: `t${at}` }));
  const counts = { live: 0, deleted: 0, unknown: 0 };
  for (let group = 1; group <= 10_010; group++) counts[restored.machine.groupState(group as GroupId)] += 1;
  expect(counts).toEqual({ live: 5_002, deleted: 5_000, unknown: 8 });
});

test("catalog: an entry of another kind is refused", () => {
  const run = cluster();
  expect(run.apply({ kind: 1, payload: encodeDeleteTopic({ vhost: "/", name: "orders" }), timeMs: 0 }).code).toBe(CATALOG_BAD_COMMAND);
  expect(run.machine.topic("/", "orders")).toBeDefined();
});

test("catalog: hostile bytes are refused, and the state stays as good as it was", () => {
  const text = fc.oneof(fc.constant("orders"), fc.string({ unit: "binary", maxLength: 8 }));
  const valid = fc.oneof(
    fc
      .record({ vhost: text, name: text, placement: fc.array(fc.array(fc.nat({ max: 1030 }), { maxLength: 8 }), { maxLength: 4 }) })
      .map(({ placement, ...rest }) => create({ ...rest, placement: placement as NodeId[][] })),
    text.map((storeId) => encodeRegisterNode(nodeRow(2, { storeId, zone: storeId }))),
    text.map((name) => encodeUpdateTopic({ vhost: "/", name, config: CONFIG, fields: ["retentionMs"] })),
    text.map(encodeInitialize),
  );
  const damaged = fc
    .tuple(valid, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }), fc.nat({ max: 120 }))
    .map(([bytes, flips, length]) => {
      const copy = bytes.slice(0, Math.max(length, 1));
      for (const [at, value] of flips) copy[at % copy.length] = value;
      return copy;
    });
  fc.assert(
    fc.property(fc.array(fc.oneof(damaged, fc.uint8Array({ maxLength: 60 })), { maxLength: 12 }), (payloads) => {
      const run = cluster();
      for (const payload of payloads) run.command(payload);
      const restored = new CatalogMachine();
      restored.restore(run.machine.snapshot());
      expect(restored.snapshot()).toEqual(run.machine.snapshot());
    }),
    { numRuns: 300 },
  );
});

test("catalog: a damaged or newer snapshot is refused and changes nothing", () => {
  const run = cluster();
  const good = run.machine.snapshot();
  for (let length = 0; length < good.length; length++) {
    expect(() => run.machine.restore(good.subarray(0, length)), `${length} bytes`).toThrow(DecodeError);
  }
  expect(() => run.machine.restore(Uint8Array.of(...good, 0))).toThrow(DecodeError);
  expect(() => run.machine.restore(Uint8Array.of(2, ...good.subarray(1)))).toThrow("format 2");
  expect(run.machine.snapshot()).toEqual(good);
});

test("catalog: the order in which nodes came does not show in a snapshot", () => {
  const [one, other] = [new MachineRun(new CatalogMachine()), new MachineRun(new CatalogMachine())];
  for (const id of [1, 10, 9, 2]) one.command(encodeRegisterNode(nodeRow(id)));
  for (const id of [2, 9, 10, 1]) other.command(encodeRegisterNode(nodeRow(id)));
  expect(other.machine.snapshot()).toEqual(one.machine.snapshot());
  expect(other.machine.nodes().map(({ id }) => id)).toEqual([1, 2, 9, 10]);
});
