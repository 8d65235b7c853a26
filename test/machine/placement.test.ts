import fc from "fast-check";
import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { place, type PlacementNode } from "../../src/machine/catalog/placement.ts";

function nodes(zones: readonly string[]): PlacementNode[] {
  return zones.map((zone, at) => ({ id: (at + 1) as NodeId, dc: zone === "" ? "" : "dc", zone, replicas: 0, leaders: 0 }));
}

function spread(placement: readonly (readonly NodeId[])[], among: readonly PlacementNode[]): { replicas: number; leaders: number } {
  const range = (counts: readonly number[]): number => Math.max(...counts) - Math.min(...counts);
  const replicas = among.map(({ id, replicas }) => replicas + placement.filter((list) => list.includes(id)).length);
  const leaders = among.map(({ id, leaders }) => leaders + placement.filter((list) => list[0] === id).length);
  return { replicas: range(replicas), leaders: range(leaders) };
}

const request = fc
  .record({
    zones: fc.array(fc.constantFrom("", "a", "b", "c"), { minLength: 1, maxLength: 9 }),
    partitions: fc.nat({ max: 60 }),
    replicas: fc.integer({ min: 1, max: 7 }),
    start: fc.nat(),
  })
  .map(({ zones, replicas, ...rest }) => ({ nodes: nodes(zones), replicas: Math.min(replicas, zones.length), ...rest }));

test("placement: every partition gets that many different nodes, the same ones for the same request", () => {
  fc.assert(
    fc.property(request, (one) => {
      const placement = place(one);
      expect(placement).toHaveLength(one.partitions);
      const ids = new Set(one.nodes.map(({ id }) => id));
      for (const list of placement) {
        expect(new Set(list).size).toBe(one.replicas);
        expect(list).toHaveLength(one.replicas);
        expect(list.every((id) => ids.has(id))).toBe(true);
      }
      expect(place(one)).toEqual(placement);
    }),
  );
});

test("placement: no zone has two replicas more than another that has a node left", () => {
  fc.assert(
    fc.property(request, (one) => {
      const zoneOf = ({ id, zone }: PlacementNode): string => zone || `#${id}`;
      for (const list of place(one)) {
        const used = one.nodes.filter(({ id }) => list.includes(id)).map(zoneOf);
        const free = new Set(one.nodes.filter(({ id }) => !list.includes(id)).map(zoneOf));
        const uses = (zone: string): number => used.filter((other) => other === zone).length;
        for (const zone of free) expect(Math.max(...used.map(uses)), `${zone} of ${list.join()}`).toBeLessThanOrEqual(uses(zone) + 1);
      }
    }),
  );
});

test("placement: among equals, replicas and leaders are spread evenly", () => {
  const even = fc.record({
    count: fc.integer({ min: 1, max: 9 }),
    partitions: fc.integer({ min: 1, max: 60 }),
    replicas: fc.integer({ min: 1, max: 7 }),
    start: fc.nat(),
  });
  fc.assert(
    fc.property(even, ({ count, partitions, replicas, start }) => {
      const among = nodes(Array.from({ length: count }, () => ""));
      const range = spread(place({ nodes: among, partitions, replicas: Math.min(replicas, count), start }), among);
      expect(range.replicas).toBeLessThanOrEqual(1);
      expect(range.leaders).toBeLessThanOrEqual(1);
    }),
    { numRuns: 300 },
  );
});

test("placement: new leaders make up for an uneven start", () => {
  const among = nodes(["", "", ""]).map((node) => ({ ...node, leaders: node.id === 1 ? 6 : 0 }));
  expect(spread(place({ nodes: among, partitions: 24, replicas: 3, start: 0 }), among).leaders).toBe(0);
});

test("placement: small topics made one after another are spread as well", () => {
  let among = nodes(["", "", "", "", ""]);
  for (let topic = 0; topic < 50; topic++) {
    const placement = place({ nodes: among, partitions: 1, replicas: 3, start: topic });
    among = among.map((node) => ({
      ...node,
      replicas: node.replicas + (placement[0]!.includes(node.id) ? 1 : 0),
      leaders: node.leaders + (placement[0]![0] === node.id ? 1 : 0),
    }));
  }
  expect(spread([], among).replicas).toBeLessThanOrEqual(1);
  expect(spread([], among).leaders).toBeLessThanOrEqual(1);
});

const cases: readonly { name: string; nodes: PlacementNode[]; partitions: number; replicas: number; expected: number[][] }[] = [
  { name: "three nodes take turns as leaders", nodes: nodes(["", "", ""]), partitions: 3, replicas: 1, expected: [[1], [3], [2]] },
  {
    name: "a loaded node comes last",
    nodes: nodes(["", "", ""]).map((node) => ({ ...node, replicas: node.id === 1 ? 9 : 0 })),
    partitions: 1,
    replicas: 2,
    expected: [[2, 3]],
  },
  {
    name: "a loaded node is taken for its zone",
    nodes: nodes(["a", "b", "b"]).map((node) => ({ ...node, replicas: node.id === 1 ? 9 : 0 })),
    partitions: 1,
    replicas: 2,
    expected: [[1, 2]],
  },
  {
    name: "who leads less leads",
    nodes: nodes(["", "", ""]).map((node) => ({ ...node, leaders: 3 - node.id })),
    partitions: 1,
    replicas: 3,
    expected: [[3, 1, 2]],
  },
  {
    name: "one zone name in two data centres is two zones",
    nodes: nodes(["a", "a", "a"]).map((node) => ({ ...node, dc: node.id === 3 ? "south" : "north" })),
    partitions: 1,
    replicas: 2,
    expected: [[1, 3]],
  },
];

for (const { name, expected, ...one } of cases) {
  test(`placement: ${name}`, () => {
    expect(place({ ...one, start: 0 })).toEqual(expected);
  });
}

test("placement: more replicas than nodes is a bug of the caller", () => {
  expect(() => place({ nodes: nodes(["", ""]), partitions: 1, replicas: 3, start: 0 })).toThrow("as many nodes as replicas");
});
