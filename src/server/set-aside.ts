// Parts of the data that are damaged as a whole: they are kept beside it until the cluster has made up for them.

import { join } from "node:path";
import { nodeOfReplica } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Disk } from "../log/disk.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { Identity } from "./identity.ts";

const PREFIX = "lost-";

export type Folder = "store" | "catalog" | "log";

/** A part of the data is damaged as a whole; the other nodes have what is needed to bring it back. */
export class LostError extends Error {
  override readonly name = "LostError";
  readonly what: Folder | "catalog replica";

  constructor(what: Folder | "catalog replica", cause: Error) {
    super(cause.message, { cause });
    this.what = what;
  }
}

export type DataFolder = { readonly disk: Disk; readonly dataDir: string; readonly identity: Identity };

/** What is damaged as a whole is kept beside the data until its successor is in place. */
export async function setAside(
  { what, message }: LostError,
  { disk, dataDir, identity }: DataFolder,
  { logger, nowMs }: { logger: Logger; nowMs: number },
): Promise<void> {
  if (what === "log") await identity.lostStore(message);
  else if (what !== "store") await identity.lostCatalog(message);
  if (what === "catalog replica") return;
  const name = `${PREFIX}${identity.startedAs}-${nowMs}-${what}`;
  logger.error({ folder: what, keptAs: name, reason: message }, "damaged data is set aside");
  await disk.makeDirectory(join(dataDir, what));
  await disk.rename(join(dataDir, what), join(dataDir, name));
}

/**
 * What an earlier start set aside goes, once the catalog has given this node new replicas; unless the node holds topics of
 * one or two replicas, of which it may be all that is left.
 */
export async function forgetSetAside({ disk, dataDir, identity }: DataFolder, nodeId: number, catalog: CatalogMachine): Promise<void> {
  for (const { partitions } of catalog.topics())
    for (const { replicas } of partitions) if (replicas.length < 3 && replicas.some((replica) => nodeOfReplica(replica) === nodeId)) return;
  const ofThisStart = `${PREFIX}${identity.startedAs}-`;
  for (const name of await disk.list(dataDir))
    if (name.startsWith(PREFIX) && !name.startsWith(ofThisStart)) await disk.removeFolder(join(dataDir, name));
}
