// Bugs of the host: groups at rest, bounds, what reaches whom.

import { copyInto } from "../../../src/base/copy.ts";
import { ReplicaHost } from "../../../src/replica/host.ts";
import { Pulse } from "../../../src/replica/pulse.ts";
import { Shared } from "../../../src/replica/shared.ts";
import { Replica } from "../../../src/replica/replica.ts";
import { Controller } from "../../../src/broker/controller.ts";
import { StreamReader } from "../../../src/broker/stream-reader.ts";
import { both, swap, type Planted } from "./swap.ts";

type Proposals = { queue: unknown[]; queueBytes: number };

export const PLANTED_NODE: readonly Planted[] = [
  {
    name: "stuck-at-rest",
    what: "a group at rest does not wake when the node of its leader is lost",
    within: 120,
    plant: () =>
      swap<Pulse["wake"]>(
        Pulse,
        "wake",
        (original) =>
          function (this: Pulse, replica) {
            if (!replica.awake && replica.raft.leader === 0 && replica.raft.term > 0) return;
            original.call(this, replica);
          },
      ),
  },
  {
    name: "moved-away-closed",
    what: "a node that starts does not open the replicas that a move has yet to take away from it",
    within: 240,
    run: { nodes: 5, faults: ["move", "drain", "kill", "cluster"] },
    plant: () => swap<() => unknown[]>(Controller, "missingOfLeaving", () => () => []),
  },
  {
    name: "no-back-pressure",
    what: "a leader takes in whatever comes, however much waits already",
    within: 20,
    run: { floods: true },
    plant: both(
      () =>
        swap<Shared["settingsOf"]>(
          Shared,
          "settingsOf",
          (original) =>
            function (this: Shared, id) {
              return { ...original.call(this, id), uncommittedBytesMax: Number.POSITIVE_INFINITY };
            },
        ),
      () =>
        swap<Replica["propose"]>(
          Replica,
          "propose",
          (original) =>
            function (this: Replica, kind, payload, crc, done) {
              if (!this.isLeader) return original.call(this, kind, payload, crc, done);
              const parts = this as unknown as Proposals;
              if (parts.queue.length === 0) parts.queue = [];
              parts.queue.push({ kind, payload, crc, done });
              parts.queueBytes += payload.length;
              return true;
            },
        ),
    ),
  },
  {
    name: "end-before-applied",
    what: "a read is served as soon as it is confirmed, before what was committed then is applied",
    within: 40,
    plant: () =>
      swap<Replica["readsConfirmed"]>(
        Replica,
        "readsConfirmed",
        (original) =>
          function (this: Replica, reads, dropped) {
            original.call(
              this,
              reads.map(({ token }) => ({ token, index: 0 })),
              dropped,
            );
          },
      ),
  },
  {
    name: "reader-skips",
    what: "a reader that asks for a little goes on behind a batch that it did not get",
    within: 20,
    plant: () =>
      swap<StreamReader["read"]>(
        StreamReader,
        "read",
        (original) =>
          async function (this: StreamReader, replica, offset, endOffset, maxBytes) {
            const batches = await original.call(this, replica, offset, endOffset, maxBytes);
            return batches.length > 3 ? [batches[0]!, ...batches.slice(2)] : batches;
          },
      ),
  },
  {
    name: "memory-used-again",
    what: "the memory of a batch is written to while the batch is still being sent",
    within: 20,
    plant: () => {
      const last = new Map<ReplicaHost, Uint8Array>();
      return swap<ReplicaHost["propose"]>(
        ReplicaHost,
        "propose",
        (original) =>
          function (this: ReplicaHost, group, kind, payload, done) {
            const before = last.get(this);
            if (before !== undefined && before.length === payload.length) copyInto(before, 0, payload);
            last.set(this, payload);
            original.call(this, group, kind, payload, done);
          },
      );
    },
  },
];
