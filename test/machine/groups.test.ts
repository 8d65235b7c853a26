import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { STREAM_GROUP_IN_USE, STREAM_GROUP_UNKNOWN, STREAM_OK } from "../../src/machine/stream/codes.ts";
import { Groups } from "../../src/machine/stream/groups.ts";

const join = (groups: Groups, member: string, partitions: number): number => groups.operate({ op: "join", group: "g", member, partitions });
const of = (groups: Groups, member: string): readonly number[] => groups.assignment("g", member)!.partitions;

test("groups: partitions are spread evenly, and move only when whoever reads them lets go", () => {
  const groups = new Groups();
  join(groups, "a", 4);
  expect(of(groups, "a")).toEqual([0, 1, 2, 3]);
  join(groups, "b", 4);
  expect(groups.assignment("g", "a")).toEqual({ generation: 2, partitions: [0, 1], revoked: [2, 3] });
  expect(of(groups, "b")).toEqual([]);
  groups.operate({ op: "release", group: "g", member: "a", released: [2] });
  expect(of(groups, "b")).toEqual([2]);
  groups.operate({ op: "leave", group: "g", member: "a" });
  expect(of(groups, "b")).toEqual([0, 1, 2, 3]);
  expect(groups.assignment("g", "a")).toBeUndefined();
});

test("groups: who stays keeps what it has, when members come and go and when the topic grows", () => {
  const groups = new Groups();
  for (const member of ["a", "b", "c"]) join(groups, member, 6);
  for (const member of ["a", "b", "c"])
    groups.operate({ op: "release", group: "g", member, released: groups.assignment("g", member)!.revoked });
  const before = new Map(["a", "b"].map((member) => [member, of(groups, member)]));
  groups.operate({ op: "leave", group: "g", member: "c" });
  for (const [member, partitions] of before) expect(of(groups, member)).toEqual(expect.arrayContaining([...partitions]));
  join(groups, "a", 8);
  expect([...of(groups, "a"), ...of(groups, "b")].sort((one, other) => one - other)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

test("groups: one goes when it is deleted, not while it has members, and makes room for another one", () => {
  const groups = new Groups();
  join(groups, "a", 2);
  const remove = (): number => groups.operate({ op: "delete", group: "g" });
  expect(remove()).toBe(STREAM_GROUP_IN_USE);
  expect(of(groups, "a")).toEqual([0, 1]);
  groups.operate({ op: "leave", group: "g", member: "a" });
  expect([groups.size, remove(), groups.size, remove()]).toEqual([1, STREAM_OK, 0, STREAM_GROUP_UNKNOWN]);
});

test("groups: no partition is ever read by two, none is left out once all have let go, and a state that was read goes on alike", () => {
  const action = fc.record({
    kind: fc.constantFrom("join", "leave", "release"),
    member: fc.constantFrom("a", "b", "c", "d"),
    more: fc.nat(2),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      let groups = new Groups();
      let partitions = 1;
      for (const { kind, member, more } of actions) {
        if (kind === "join") join(groups, member, (partitions = Math.min(9, partitions + more)));
        else if (kind === "leave") groups.operate({ op: "leave", group: "g", member });
        else groups.operate({ op: "release", group: "g", member, released: groups.assignment("g", member)?.revoked ?? [] });
        const writer = new ByteWriter();
        groups.write(writer);
        const bytes = writer.finish();
        groups = Groups.read(new ByteReader(bytes));
        const again = new ByteWriter();
        groups.write(again);
        expect(again.finish()).toEqual(bytes);
        const read = groups
          .members("g")
          .flatMap((one) => [...groups.assignment("g", one)!.partitions, ...groups.assignment("g", one)!.revoked]);
        expect(new Set(read).size).toBe(read.length);
      }
      for (const member of groups.members("g"))
        groups.operate({ op: "release", group: "g", member, released: groups.assignment("g", member)!.revoked });
      const counts = groups.members("g").map((member) => of(groups, member).length);
      if (counts.length > 0) {
        expect(counts.reduce((sum, count) => sum + count)).toBe(partitions);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }
    }),
  );
});
