// Who this data directory belongs to. A plain file, so that a person can read it.

import { randomBytes } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { NodeId } from "../base/ids.ts";

const FILE = "node.json";
const FORMAT = 1;

export type NodeMeta = {
  readonly formatVersion: number;
  readonly clusterId: string;
  readonly nodeId: number;
  /** Random, made with the directory: tells this disk from an emptied or replaced one. */
  readonly storeId: string;
  /** Rises with each start. */
  readonly incarnation: number;
};

/** The directory belongs to someone else, or to a newer release. */
export class NodeMetaError extends Error {
  override readonly name = "NodeMetaError";
}

/** Reads the identity, or makes it for an empty directory; the raised incarnation is durable when this resolves. */
export async function openNodeMeta(settings: { directory: string; clusterId: string; nodeId: NodeId }): Promise<NodeMeta> {
  const { directory, clusterId, nodeId } = settings;
  const known = await read(join(directory, FILE));
  if (known !== undefined) {
    if (known.formatVersion > FORMAT)
      throw new NodeMetaError(`${directory} was written by a newer release (format ${known.formatVersion}, known is ${FORMAT})`);
    if (known.clusterId !== clusterId)
      throw new NodeMetaError(
        `${directory} belongs to cluster ${JSON.stringify(known.clusterId)}, not ${JSON.stringify(clusterId)}; check --data-dir and --cluster-id`,
      );
    if (known.nodeId !== nodeId)
      throw new NodeMetaError(`${directory} belongs to node ${known.nodeId}, not ${nodeId}; check --data-dir and --node-id`);
  }
  const meta =
    known === undefined
      ? { formatVersion: FORMAT, clusterId, nodeId, storeId: randomBytes(16).toString("hex"), incarnation: 1 }
      : { ...known, incarnation: known.incarnation + 1 };
  await write(directory, meta);
  return meta;
}

async function read(path: string): Promise<NodeMeta | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const meta = JSON.parse(text) as NodeMeta;
    if (
      typeof meta.clusterId === "string" &&
      typeof meta.storeId === "string" &&
      Number.isSafeInteger(meta.nodeId) &&
      Number.isSafeInteger(meta.incarnation) &&
      Number.isSafeInteger(meta.formatVersion)
    )
      return meta;
  } catch {
    // Falls through to the refusal.
  }
  throw new NodeMetaError(`${path} is damaged: restore it, or replace this node`);
}

async function write(directory: string, meta: NodeMeta): Promise<void> {
  const temporary = join(directory, `${FILE}.new`);
  const file = await open(temporary, "w", 0o640);
  try {
    await file.writeFile(`${JSON.stringify(meta, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(directory, FILE));
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
