// Bugs planted on purpose, to measure the simulator: each takes one promise away by swapping a method of the product's classes
// in this process. Nothing in the product knows of it.

import { LocalGroups } from "../../src/broker/local-groups.ts";
import { SegmentLog } from "../../src/log/segment-log.ts";
import { Producers } from "../../src/machine/stream/producers.ts";
import { STREAM_OK } from "../../src/machine/stream/codes.ts";
import { Voids } from "../../src/machine/stream/voids.ts";
import { Core } from "../../src/raft/core.ts";
import type { Message } from "../../src/raft/types.ts";
import { Digest } from "../../src/replica/digest.ts";
import { ReplicaHost } from "../../src/replica/host.ts";
import { Lane } from "../../src/replica/lane.ts";
import { Replica } from "../../src/replica/replica.ts";
import { Identity } from "../../src/server/identity.ts";
import { SimKv } from "./sim-kv.ts";

type Method = (this: never, ...call: never[]) => unknown;
type Planted = { readonly name: string; readonly what: string; readonly plant: () => () => void };

/** Swaps a method, private or not; returns the way back. */
function swap<T extends Method>(type: { readonly prototype: object }, name: string, make: (original: T) => T): () => void {
  const methods = type.prototype as Record<string, Method>;
  const original = methods[name];
  if (original === undefined) throw new Error(`there is no method ${name} any more`);
  methods[name] = make(original as T);
  return () => void (methods[name] = original);
}

type LaneParts = { readonly components: { readonly send: (replica: Replica, message: Message) => void } };
type Ready = { readonly messagesAfterPersist: readonly Message[] };

export const PLANTED: readonly Planted[] = [
  {
    name: "skip-sync",
    what: "the log is written and not synced",
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
    plant: () => swap<Producers["judge"]>(Producers, "judge", () => () => ({ code: STREAM_OK, offset: -1 })),
  },
  {
    name: "producers-forgotten",
    what: "saved states know no producers",
    plant: () => swap<Producers["write"]>(Producers, "write", () => (writer) => void writer.varint(0)),
  },
  {
    name: "voids-forgotten",
    what: "no entry counts as refused: readers get what was a duplicate",
    plant: () => swap<Voids["has"]>(Voids, "has", () => () => false),
  },
  {
    name: "read-without-barrier",
    what: "a leader answers without asking whether it still leads",
    plant: () => swap<ReplicaHost["readBarrier"]>(ReplicaHost, "readBarrier", () => (_group, done) => done(true)),
  },
  {
    name: "offset-denied",
    what: "a leader that was replaced denies offsets of its successor",
    plant: () => swap<() => Promise<boolean>>(LocalGroups, "confirmed", () => () => Promise.resolve(true)),
  },
  {
    name: "older-catalog",
    what: "a replica is removed and a restart with an older catalog does not know of it",
    plant: () => swap<Identity["actOn"]>(Identity, "actOn", () => () => Promise.resolve()),
  },
  {
    name: "early-forget",
    what: "old checkpoints go before the log begins later",
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
