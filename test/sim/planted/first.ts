// The first bugs that were planted: what a node writes and says too early, and what a stream forgets.

import { LocalGroups } from "../../../src/broker/local-groups.ts";
import { SegmentLog } from "../../../src/log/segment-log.ts";
import { Producers } from "../../../src/machine/stream/producers.ts";
import { STREAM_OK } from "../../../src/machine/stream/codes.ts";
import { Voids } from "../../../src/machine/stream/voids.ts";
import { Core } from "../../../src/raft/core.ts";
import type { Message } from "../../../src/raft/types.ts";
import { Digest } from "../../../src/replica/digest.ts";
import { ReplicaHost } from "../../../src/replica/host.ts";
import { Lane } from "../../../src/replica/lane.ts";
import { Replica } from "../../../src/replica/replica.ts";
import { Identity } from "../../../src/server/identity.ts";
import { SimKv } from "../sim-kv.ts";
import { swap, type Planted } from "./swap.ts";

type LaneParts = { readonly components: { readonly send: (replica: Replica, message: Message) => void } };
type Ready = { readonly messagesAfterPersist: readonly Message[] };

export const PLANTED_FIRST: readonly Planted[] = [
  {
    name: "skip-sync",
    what: "the log is written and not synced",
    within: 20,
    plant: () =>
      swap<SegmentLog["append"]>(
        SegmentLog,
        "append",
        (append) =>
          function (this: SegmentLog, writes, _sync, done) {
            append.call(this, writes, false, done);
          },
      ),
  },
  {
    name: "early-messages",
    what: "votes and acknowledgements leave before the write that they depend on",
    within: 20,
    plant: () =>
      swap<(this: LaneParts, replica: Replica, ready: Ready) => void>(
        Lane,
        "add",
        (add) =>
          function (this: LaneParts, replica, ready) {
            for (const message of ready.messagesAfterPersist) this.components.send(replica, message);
            add.call(this, replica, { ...ready, messagesAfterPersist: [] });
          },
      ),
  },
  {
    name: "ack-before-majority",
    what: "a leader commits what it alone has",
    within: 20,
    plant: () =>
      swap<Core["maybeCommit"]>(
        Core,
        "maybeCommit",
        () =>
          function (this: Core) {
            if (this.log.lastIndex <= this.commit) return false;
            this.commitTo(this.log.lastIndex);
            return true;
          },
      ),
  },
  {
    name: "no-dedup",
    what: "a batch that comes again is stored again",
    within: 20,
    plant: () => swap<Producers["judge"]>(Producers, "judge", () => () => ({ code: STREAM_OK, offset: -1 })),
  },
  {
    name: "producers-forgotten",
    what: "saved states know no producers",
    within: 40,
    plant: () => swap<Producers["write"]>(Producers, "write", () => (writer) => void writer.varint(0)),
  },
  {
    name: "voids-forgotten",
    what: "no entry counts as refused: readers get what was a duplicate",
    within: 20,
    plant: () => swap<Voids["has"]>(Voids, "has", () => () => false),
  },
  {
    name: "read-without-barrier",
    what: "a leader answers without asking whether it still leads",
    within: 20,
    plant: () => swap<ReplicaHost["readBarrier"]>(ReplicaHost, "readBarrier", () => (_group, done) => done(true)),
  },
  {
    name: "offset-denied",
    what: "a leader that was replaced denies offsets of its successor",
    within: 20,
    plant: () => swap<() => Promise<boolean>>(LocalGroups, "confirmed", () => () => Promise.resolve(true)),
  },
  {
    name: "older-catalog",
    what: "a replica is removed and a restart with an older catalog does not know of it",
    within: 80,
    run: { nodes: 5, faults: ["move", "drain", "kill", "power", "partition", "kvhole"] },
    plant: () => swap<Identity["actOn"]>(Identity, "actOn", () => () => Promise.resolve()),
  },
  {
    name: "early-forget",
    what: "old checkpoints go before the log begins later",
    within: 40,
    plant: () =>
      swap<SegmentLog["trim"]>(
        SegmentLog,
        "trim",
        (trim) =>
          function (this: SegmentLog, group, index, term, recorded) {
            trim.call(this, group, index, term);
            recorded?.();
          },
      ),
  },
  {
    name: "unsynced-store",
    what: "checkpoints and segment rows are not synced",
    within: 40,
    plant: () =>
      swap<SimKv["batch"]>(
        SimKv,
        "batch",
        (batch) =>
          function (this: SimKv, operations) {
            return batch.call(this, operations, { sync: false });
          },
      ),
  },
  {
    name: "vote-not-synced",
    what: "a new vote or term does not make its write a synced one, and is not kept",
    within: 20,
    plant: () =>
      swap<(this: LaneParts, replica: Replica, ready: { hardState: object | null; mustSync: boolean }) => void>(
        Lane,
        "add",
        (add) =>
          function (this: LaneParts, replica, ready) {
            add.call(this, replica, { ...ready, hardState: null, mustSync: false });
          },
      ),
  },
  {
    name: "digest",
    what: "a replica that a snapshot brought up to date counts half of what was applied before",
    within: 40,
    plant: () =>
      swap<Digest["restore"]>(
        Digest,
        "restore",
        (restore) =>
          function (this: Digest, index, saved) {
            restore.call(this, index, saved === null ? null : { ...saved, a: 0 });
          },
      ),
  },
];
