// Bugs of the state machines: what a retry meets, what a trim takes, which number a group gets.

import { CatalogMachine } from "../../../src/machine/catalog/catalog.ts";
import { NodeTable } from "../../../src/machine/catalog/nodes.ts";
import { STREAM_FENCED, STREAM_OK } from "../../../src/machine/stream/codes.ts";
import { Cursors } from "../../../src/machine/stream/cursors.ts";
import { OffsetIndex, type OffsetRow } from "../../../src/machine/stream/offset-index.ts";
import { Producers } from "../../../src/machine/stream/producers.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import { swap, type Planted } from "./swap.ts";

type ProducerParts = { readonly producers: Map<number, { batches: unknown[] }> };
type IndexParts = { readonly size: number; row: (row: number) => OffsetRow | undefined };
type Rows = { readonly rows: Map<number, { nextLife: number }> };

export const PLANTED_MACHINES: readonly Planted[] = [
  {
    name: "window-too-short",
    what: "a stream remembers one producer only",
    within: 20,
    plant: () =>
      swap<Producers["accept"]>(
        Producers,
        "accept",
        (original) =>
          function (this: Producers, header, offset, nowMs) {
            original.call(this, header, offset, nowMs);
            const { producers } = this as unknown as ProducerParts;
            for (const id of producers.keys()) if (id !== header.producerId) producers.delete(id);
          },
      ),
  },
  {
    name: "duplicate-without-place",
    what: "a retry of the newest batch is recognised, and not told where the batch is",
    within: 20,
    plant: () =>
      swap<Producers["accept"]>(
        Producers,
        "accept",
        (original) =>
          function (this: Producers, header, offset, nowMs) {
            original.call(this, header, offset, nowMs);
            (this as unknown as ProducerParts).producers.get(header.producerId)!.batches = [];
          },
      ),
  },
  {
    name: "cursor-goes-back",
    what: "a commit that comes late takes a committed offset back",
    within: 20,
    plant: () =>
      swap<Cursors["commit"]>(
        Cursors,
        "commit",
        (original) =>
          function (this: Cursors, commit, endOffset, nowMs) {
            return original.call(this, { ...commit, reset: true }, endOffset, nowMs);
          },
      ),
  },
  {
    name: "retention-takes-all",
    what: "retention by size takes everything",
    within: 20,
    plant: () =>
      swap<StreamMachine["retentionCandidate"]>(
        StreamMachine,
        "retentionCandidate",
        (original) =>
          function (this: StreamMachine, policy) {
            return original.call(this, policy) < 0 ? -1 : this.endOffset;
          },
      ),
  },
  {
    name: "retention-one-more",
    what: "retention by size takes one row of the index more than it may",
    within: 40,
    plant: () =>
      swap<OffsetIndex["locateBytes"]>(
        OffsetIndex,
        "locateBytes",
        (original) =>
          function (this: OffsetIndex, bytes) {
            const right = original.call(this, bytes);
            const { size, row } = this as unknown as IndexParts;
            for (let at = 0; at < size; at++) {
              const next = row.call(this, at);
              if (next !== undefined && next.bytes > (right?.bytes ?? -1)) return next;
            }
            return right;
          },
      ),
  },
  {
    name: "epoch-not-fenced",
    what: "a producer that was replaced can still publish",
    within: 20,
    plant: () =>
      swap<Producers["judge"]>(
        Producers,
        "judge",
        (original) =>
          function (this: Producers, header) {
            const verdict = original.call(this, header);
            return verdict.code === STREAM_FENCED ? { code: STREAM_OK, offset: -1 } : verdict;
          },
      ),
  },
  {
    name: "group-number-again",
    what: "a group that is made gets the number of one that was deleted",
    within: 40,
    run: { faults: ["topics", "kill", "power"] },
    plant: () =>
      swap<(this: CatalogMachine, vhost: string, name: string) => unknown>(
        CatalogMachine,
        "delete",
        (original) =>
          function (this: CatalogMachine, vhost, name) {
            const gone = this.topic(vhost, name);
            const outcome = original.call(this, vhost, name);
            const first = Math.min(...(gone?.partitions ?? []).map(({ group }) => group));
            const parts = this as unknown as { nextGroup: number; groupRows: Map<number, unknown> };
            while (Number.isFinite(first) && parts.nextGroup > first && !parts.groupRows.has(parts.nextGroup - 1)) parts.nextGroup -= 1;
            return outcome;
          },
      ),
  },
  {
    name: "life-again",
    what: "a replica that takes the place of a lost one gets its id",
    within: 60,
    run: { nodes: 4, faults: ["move", "drain", "bitrot", "kill"] },
    plant: () =>
      swap<NodeTable["takeLife"]>(
        NodeTable,
        "takeLife",
        () =>
          function (this: NodeTable, node) {
            return (this as unknown as Rows).rows.get(node)!.nextLife - 1;
          },
      ),
  },
];
