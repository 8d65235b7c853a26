// Who this data directory belongs to. A plain file, so that a person can read it.

import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { NodeId } from "../base/ids.ts";
import { readIfReadable, synced, written, type Disk } from "../log/disk.ts";

const FILE = "node.json";
const FORMAT = 2;

export type NodeMeta = {
  readonly formatVersion: number;
  readonly clusterId: string;
  readonly nodeId: number;
  /** Random, made with the directory: tells this disk from an emptied or replaced one. */
  readonly storeId: string;
  /** Rises with each start, and whenever all parts are opened again. */
  readonly incarnation: number;
  /** The life of this node's replica of the catalog; null until the node is a founder or has joined. */
  readonly catalogLife: number | null;
  /** The life of a replica of the catalog that was here and cannot be used any more; -1 = there was none. */
  readonly lostLife: number;
  /** Something was lost: this node must not act as a founder, whatever it finds. */
  readonly mustJoin: boolean;
  /** The newest version of the catalog on account of which something was removed here; 0 = nothing was yet. */
  readonly actedView: number;
};

/** The directory belongs to someone else, or to a newer release. */
export class NodeMetaError extends Error {
  override readonly name = "NodeMetaError";
}

/**
 * Reads the identity, or makes one for a directory without; the raised incarnation is durable when this resolves.
 * `hasData`: other files are there. Without a readable identity beside them nobody knows what this node promised.
 */
export async function openNodeMeta(settings: {
  directory: string;
  clusterId: string;
  nodeId: NodeId;
  hasData: boolean;
  disk: Disk;
  /** Names for data directories, never the same twice. */
  newStoreId: () => string;
}): Promise<{ meta: NodeMeta; damage: string | null }> {
  const { directory, clusterId, nodeId, hasData, disk, newStoreId } = settings;
  const known = await read(disk, join(directory, FILE));
  if (known !== null && typeof known === "object") {
    refuseForeign(known, settings);
    const meta = { ...known, incarnation: known.incarnation + 1 };
    await writeNodeMeta(disk, directory, meta);
    return { meta, damage: null };
  }
  const damage = known === null ? (hasData ? `${FILE} is missing beside data` : null) : `${FILE} is damaged`;
  const meta = {
    formatVersion: FORMAT,
    clusterId,
    nodeId,
    storeId: newStoreId(),
    incarnation: 1,
    catalogLife: null,
    lostLife: -1,
    mustJoin: damage !== null,
    actedView: 0,
  };
  // A damaged file stays until its loss is dealt with: its place tells the next start the same.
  if (damage === null) await writeNodeMeta(disk, directory, meta);
  return { meta, damage };
}

/** Another disk, as far as the cluster is concerned: nothing that the old one promised counts for it. */
export function withNewStore(meta: NodeMeta, storeId: string): NodeMeta {
  return { ...meta, storeId, catalogLife: null, lostLife: -1, mustJoin: true };
}

/** The replica of the catalog here can no longer be used. */
export function withoutCatalog(meta: NodeMeta): NodeMeta {
  return { ...meta, catalogLife: null, lostLife: meta.catalogLife ?? meta.lostLife, mustJoin: true };
}

function refuseForeign(known: NodeMeta, { directory, clusterId, nodeId }: { directory: string; clusterId: string; nodeId: NodeId }): void {
  if (known.formatVersion > FORMAT)
    throw new NodeMetaError(`${directory} was written by a newer release (format ${known.formatVersion}, known is ${FORMAT})`);
  if (known.clusterId !== clusterId)
    throw new NodeMetaError(
      `${directory} belongs to cluster ${JSON.stringify(known.clusterId)}, not ${JSON.stringify(clusterId)}; check --data-dir and --cluster-id`,
    );
  if (known.nodeId !== nodeId)
    throw new NodeMetaError(`${directory} belongs to node ${known.nodeId}, not ${nodeId}; check --data-dir and --node-id`);
}

/** True when the file is there and says just this. */
export async function isNodeMeta(disk: Disk, directory: string, meta: NodeMeta): Promise<boolean> {
  const known = await read(disk, join(directory, FILE));
  return known !== null && known !== "damaged" && checksum(known) === checksum(meta);
}

/** Null when there is none, "damaged" when it cannot be read. */
async function read(disk: Disk, path: string): Promise<NodeMeta | "damaged" | null> {
  const text = await readText(disk, path);
  if (text === null) return null;
  try {
    const { crc, ...meta } = JSON.parse(text) as NodeMeta & { crc: number };
    // Earlier releases knew no `actedView`.
    return crc === checksum(meta) ? { ...meta, actedView: meta.actedView ?? 0 } : "damaged";
  } catch {
    return "damaged";
  }
}

/** Durable when it resolves. */
export async function writeNodeMeta(disk: Disk, directory: string, meta: NodeMeta): Promise<void> {
  const temporary = join(directory, `${FILE}.new`);
  const file = await disk.open(temporary, { create: true });
  try {
    await file.truncate(0);
    await written(file, Buffer.from(`${JSON.stringify({ ...meta, crc: checksum(meta) }, null, 2)}\n`), 0);
    await synced(file);
  } finally {
    await file.close();
  }
  await disk.rename(temporary, join(directory, FILE));
  await disk.syncDirectory(directory);
}

/** Null when there is no such file; "" when it cannot be read. */
async function readText(disk: Disk, path: string): Promise<string | null> {
  try {
    const file = await disk.open(path, { create: false });
    try {
      const bytes = await readIfReadable(file, 0, await file.size());
      return bytes === null ? "" : Buffer.from(bytes).toString("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Over the fields in the order of their names, so that the layout of the text does not matter. */
function checksum(meta: NodeMeta): number {
  const fields = Object.entries(meta).sort(([a], [b]) => (a < b ? -1 : 1));
  return crc32(JSON.stringify(fields));
}
