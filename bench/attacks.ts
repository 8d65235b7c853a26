// The most expensive requests that the API allows, and those that it must refuse, as raw bytes of gRPC: what a client can
// send without any library in between.

import { gzipSync } from "node:zlib";
import { ProtoWriter } from "../src/base/protobuf.ts";

export type Attack = {
  readonly name: string;
  /** The API serves it; otherwise it is refused with an error. */
  readonly isLegal: boolean;
  readonly path: string;
  /** Framed messages of one call. */
  readonly body: () => Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  /** Goes on sending what this makes, made anew for each call, in the same call without reading, as long as it is taken. */
  readonly more?: () => () => Buffer;
};

/** A topic with a few partitions that takes records, one with many partitions, one with many tiny batches in partition 0. */
export type Targets = { readonly topic: string; readonly wide: string; readonly partitions: number; readonly tiny: string };

const MEBI = 1024 * 1024;
const LARGEST = 4 * MEBI - 64;
const MESSAGING = "/flotilla.v1.Messaging";
const ADMIN = "/flotilla.v1.Admin";
const CLUSTER = "/flotilla.v1.Cluster";
const REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/** A message with its length in front, as gRPC frames it. */
export function framed(message: Uint8Array, isCompressed = false): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame[0] = isCompressed ? 1 : 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** `bytes` repeated to fill about `length`. */
function filled(bytes: readonly number[], length: number): Buffer {
  return Buffer.alloc(Math.floor(length / bytes.length) * bytes.length, Buffer.from(bytes));
}

const message = (fill: (writer: ProtoWriter) => void): Uint8Array => {
  const writer = new ProtoWriter(1024);
  fill(writer);
  return writer.finish();
};
/** `head`, then `bytes` again and again up to the largest message. */
const padded = (head: (writer: ProtoWriter) => void, bytes: readonly number[]): Buffer => {
  const start = message(head);
  return framed(Buffer.concat([start, filled(bytes, LARGEST - start.length)]));
};

/** An empty field of this number, length-delimited. */
const empty = (field: number): number[] => [field * 8 + 2, 0];

export function attacks({ topic, wide, partitions, tiny }: Targets): Attack[] {
  const unary = (name: string, isLegal: boolean, path: string, body: () => Buffer): Attack => ({ name, isLegal, path, body });
  const publish = (name: string, isLegal: boolean, body: () => Buffer): Attack => unary(name, isLegal, `${MESSAGING}/Publish`, body);
  const toTopic = (writer: ProtoWriter): unknown => writer.string(2, topic).uintAlways(3, 0);
  const opened = (): Buffer =>
    framed(
      message((w) =>
        w.block(
          1,
          message((open) => open.string(2, topic)),
        ),
      ),
    );
  const all = Array.from({ length: 1_024 }, (_, at) => at);
  return [
    publish("Publish, 65,536 empty records", true, () => framed(message((w) => (toTopic(w), w.block(4, filled(empty(1), 2 * 65_536)))))),
    publish("Publish, one record of 4 MB", true, () =>
      framed(
        message(
          (w) => (
            toTopic(w),
            w.block(
              4,
              message((batch) =>
                batch.block(
                  1,
                  message((r) => r.block(2, Buffer.alloc(4_100_000))),
                ),
              ),
            )
          ),
        ),
      ),
    ),
    publish("Publish, 2,000,000 empty records", false, () =>
      framed(message((w) => (toTopic(w), w.block(4, filled(empty(1), LARGEST - 64))))),
    ),
    publish("Publish, fields that are no records", false, () =>
      framed(message((w) => (toTopic(w), w.block(4, filled(empty(9), LARGEST - 64))))),
    ),
    publish("Publish, the topic 2,000,000 times", false, () => padded(toTopic, empty(2))),
    publish("Publish, the producer 2,000,000 times", false, () => padded(toTopic, empty(6))),
    publish("Publish, 2,000,000 unknown fields", false, () => padded(toTopic, [15 * 8, 0])),
    publish("Publish, a topic name of 4 MB", false, () => framed(message((w) => w.string(2, "\u00e9".repeat(LARGEST / 2 - 32))))),
    {
      name: "PublishStream, frames of 1,024 batches",
      isLegal: true,
      path: `${MESSAGING}/PublishStream`,
      body: opened,
      more: batches,
    },
    {
      name: "PublishStream, messages of no bytes",
      isLegal: true,
      path: `${MESSAGING}/PublishStream`,
      body: opened,
      more: () => () => Buffer.alloc(5 * 13_000),
    },
    unary("Fetch, 1,024 positions", true, `${MESSAGING}/Fetch`, () =>
      framed(
        message((w) => {
          w.string(2, wide);
          for (const at of all)
            w.block(
              3,
              message((p) => p.uint(1, at % partitions).bool(4, true)),
            );
        }),
      ),
    ),
    unary("Fetch, 4 MB of tiny batches", true, `${MESSAGING}/Fetch`, () =>
      framed(
        message((w) =>
          w
            .string(2, tiny)
            .block(
              3,
              message((p) => p.bool(4, true)),
            )
            .uint(4, LARGEST),
        ),
      ),
    ),
    unary("Fetch, 2,000,000 positions", false, `${MESSAGING}/Fetch`, () => padded((w) => w.string(2, topic), empty(3))),
    unary("CommitOffsets, 1,024 partitions with long metadata", true, `${MESSAGING}/CommitOffsets`, () =>
      framed(
        message((w) => {
          w.string(2, wide).string(3, "attack");
          for (const at of all)
            w.block(
              4,
              message((c) => c.uint(1, at % partitions).string(3, "m".repeat(990))),
            );
        }),
      ),
    ),
    unary("CommitOffsets, 2,000,000 partitions", false, `${MESSAGING}/CommitOffsets`, () =>
      padded((w) => w.string(2, topic).string(3, "attack"), empty(4)),
    ),
    unary("CommitOffsets, 500,000 partitions", false, `${MESSAGING}/CommitOffsets`, () => framed(filled(empty(4), MEBI))),
    unary("GetOffsets, 1,024 partitions by time", true, `${MESSAGING}/GetOffsets`, () =>
      framed(
        message((w) =>
          w
            .string(2, tiny)
            .block(4, filled([0], 1_024))
            .uintAlways(5, Date.now()),
        ),
      ),
    ),
    unary("GetOffsets, 4,000,000 partitions", false, `${MESSAGING}/GetOffsets`, () =>
      framed(message((w) => w.string(2, topic).block(4, filled([0], LARGEST - 64)))),
    ),
    unary("GetOffsets, 60,000 partitions", false, `${MESSAGING}/GetOffsets`, () =>
      framed(message((w) => w.string(2, topic).block(4, filled([0], 60_000)))),
    ),
    unary("UpdateTopic, 2,000,000 field names", false, `${ADMIN}/UpdateTopic`, () => padded((w) => w.string(2, topic), empty(4))),
    unary("UpdateTopic, a configuration of 30,000 values", false, `${ADMIN}/UpdateTopic`, () =>
      framed(message((w) => w.string(2, topic).block(3, filled([8, 1], 60_000)))),
    ),
    unary("DescribeTopic, all partitions of a wide topic", true, `${ADMIN}/DescribeTopic`, () => framed(message((w) => w.string(2, wide)))),
    unary("ListSubscriptions of a wide topic", true, `${ADMIN}/ListSubscriptions`, () => framed(message((w) => w.string(2, wide)))),
    unary("ListTopics", true, `${ADMIN}/ListTopics`, () => framed(new Uint8Array(0))),
    unary("Resolve, a wide topic", true, `${CLUSTER}/Resolve`, () => framed(message((w) => w.string(2, wide)))),
    unary("DescribeCluster", true, `${CLUSTER}/DescribeCluster`, () => framed(new Uint8Array(0))),
    unary("MoveReplicas, 4,000,000 nodes", false, `${CLUSTER}/MoveReplicas`, () =>
      framed(message((w) => w.string(2, topic).block(4, filled([1], LARGEST - 64)))),
    ),
    {
      name: "4 MB out of 4 KB of gzip",
      isLegal: false,
      path: `${MESSAGING}/Publish`,
      headers: { "grpc-encoding": "gzip" },
      body: () => framed(gzipSync(filled(empty(1), LARGEST)), true),
    },
    {
      name: "64 MB out of 64 KB of gzip",
      isLegal: false,
      path: `${MESSAGING}/Publish`,
      headers: { "grpc-encoding": "gzip" },
      body: () => framed(gzipSync(Buffer.alloc(64 * MEBI)), true),
    },
    {
      name: "60 KB of metadata",
      isLegal: true,
      path: `${CLUSTER}/DescribeCluster`,
      headers: Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`x-flood-${at}`, "f".repeat(500)])),
      body: () => framed(new Uint8Array(0)),
    },
    {
      name: "reflection, questions without end, answers unread",
      isLegal: true,
      path: REFLECTION,
      body: () => framed(message((w) => w.string(4, "flotilla.v1.Messaging"))),
      more: () => {
        const questions = Buffer.concat(Array.from({ length: 100 }, () => framed(message((w) => w.string(4, "flotilla.v1.Messaging")))));
        return () => questions;
      },
    },
    unary("reflection, 2,000,000 fields", false, REFLECTION, () => framed(filled(empty(4), LARGEST))),
    unary("health checks", true, "/grpc.health.v1.Health/Check", () => framed(new Uint8Array(0))),
    unary("a method that there is not", false, "/flotilla.v1.Messaging/Nothing", () => framed(Buffer.alloc(LARGEST))),
  ];
}

/** Frames of as many batches as one may have. Their ids count up over the whole call. */
function batches(): () => Buffer {
  let id = 0;
  return () =>
    framed(
      message((w) => {
        for (let at = 0; at < 1_024; at++)
          w.block(
            2,
            message((batch) => batch.uint(1, ++id).block(5, Buffer.from(empty(1)))),
          );
      }),
    );
}
