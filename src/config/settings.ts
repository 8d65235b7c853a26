// Every setting of a node, its default and its range. Unknown keys are errors; units stand last in the names.

import { hostname } from "node:os";
import { z } from "zod";

const port = z.number().int().min(0).max(65_535);
const ms = (minimum: number, maximum: number): z.ZodNumber => z.number().int().min(minimum).max(maximum);

export const settingsSchema = z.strictObject({
  /** This node's number in the cluster. */
  nodeId: z.number().int().min(1).max(1023).default(1),
  /** The same on all nodes; a node of another cluster is refused. */
  clusterId: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, "must be 1 to 64 of A-Z a-z 0-9 . _ -")
    .default("flotilla"),
  dataDir: z.string().min(1).default("data"),
  /** The address to listen on. */
  host: z.string().min(1).default("127.0.0.1"),
  /** The address that clients and other nodes are told; "" = `host`, or the machine's name if `host` is 0.0.0.0. */
  advertisedHost: z.string().default(""),
  apiPort: port.default(7440),
  peerPort: port.default(7441),
  httpPort: port.default(7442),
  /** The initial members of the cluster, this node among them: "1=host:7441,2=host:7451". Empty = a cluster of one. */
  peers: z.string().default(""),
  dc: z.string().max(64).default(""),
  zone: z.string().max(64).default(""),
  logLevel: z.enum(["fatal", "error", "warn", "info", "debug", "trace"]).default("info"),
  tickMs: ms(5, 1_000).default(50),
  /** Silence of a leader or a node before it is suspected. */
  electionTimeoutMs: ms(50, 60_000).default(500),
  segmentBytes: z
    .number()
    .int()
    .min(64 * 1024)
    .max(1024 * 1024 * 1024)
    .default(64 * 1024 * 1024),
  /** What is stored is read again and again at this rate, so that damage is found and healed; 0 = never. */
  scrubBytesPerSecond: z
    .number()
    .int()
    .min(0)
    .max(1024 * 1024 * 1024)
    .default(8 * 1024 * 1024),
  /** From the end of one such round to the start of the next. */
  scrubPauseMs: ms(100, 86_400_000).default(15_000),
  /** A node that lags is sent what it misses so much faster than new records come; 0 = as fast as it takes it. */
  catchUpBytesPerSecond: z
    .number()
    .int()
    .min(0)
    .max(2 ** 40)
    .default(64 * 1024 * 1024),
  /** Free bytes of the disk below which this node takes in no more records, and leads nothing; 0 = never. */
  diskWatermarkBytes: z
    .number()
    .int()
    .min(0)
    .max(2 ** 50)
    .default(256 * 1024 * 1024),
  /** Kept back, so that a full disk can still be cleaned up; 0 = nothing is. */
  diskReserveBytes: z
    .number()
    .int()
    .min(0)
    .max(2 ** 40)
    .default(32 * 1024 * 1024),
  /** A write that takes longer makes leaders move to other nodes. */
  slowWriteMs: ms(50, 600_000).default(1_000),
  /** How long a graceful stop may take to move leaders away. */
  drainTimeoutMs: ms(0, 600_000).default(10_000),
  /** PEM files; all three or none. */
  tlsCertFile: z.string().default(""),
  tlsKeyFile: z.string().default(""),
  tlsCaFile: z.string().default(""),
});

export type Settings = z.infer<typeof settingsSchema>;
export type SettingName = keyof Settings;
export type PeerAddress = { readonly id: number; readonly host: string; readonly port: number };

/** A setting that cannot be used; the message names it and where it came from. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

export function advertisedHostOf(settings: Settings): string {
  if (settings.advertisedHost !== "") return settings.advertisedHost;
  return settings.host === "0.0.0.0" || settings.host === "::" ? hostname() : settings.host;
}

/** The initial members; always contains this node. */
export function peersOf(settings: Settings): PeerAddress[] {
  const self = { id: settings.nodeId, host: advertisedHostOf(settings), port: settings.peerPort };
  if (settings.peers === "") return [self];
  const peers = settings.peers.split(",").map((part) => {
    const match = /^(\d{1,4})=(.+):(\d{1,5})$/.exec(part.trim());
    if (match === null) throw new SettingsError(`peers: ${JSON.stringify(part)} is not of the form ID=HOST:PORT`);
    const peer = { id: Number(match[1]), host: match[2]!, port: Number(match[3]) };
    if (peer.id < 1 || peer.id > 1023) throw new SettingsError(`peers: node id ${peer.id} is outside 1..1023`);
    if (peer.port < 1 || peer.port > 65_535) throw new SettingsError(`peers: port ${peer.port} is outside 1..65535`);
    return peer;
  });
  if (new Set(peers.map(({ id }) => id)).size !== peers.length) throw new SettingsError("peers: a node id stands there twice");
  if (!peers.some(({ id }) => id === settings.nodeId)) throw new SettingsError(`peers: this node (nodeId ${settings.nodeId}) is missing`);
  return peers.sort((a, b) => a.id - b.id);
}
