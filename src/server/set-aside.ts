// Parts of the data that are damaged as a whole: they are kept beside it until the cluster has made up for them.

import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { nodeOfReplica } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
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

export type DataFolder = { readonly dataDir: string; readonly identity: Identity };

/** What is damaged as a whole is kept beside the data until its successor is in place. */
export async function setAside({ what, message }: LostError, { dataDir, identity }: DataFolder, logger: Logger): Promise<void> {
  if (what === "log") await identity.lostStore(message);
  else if (what !== "store") await identity.lostCatalog(message);
  if (what === "catalog replica") return;
  const name = `${PREFIX}${identity.meta.incarnation}-${Date.now()}-${what}`;
  logger.error({ folder: what, keptAs: name, reason: message }, "damaged data is set aside");
  await mkdir(join(dataDir, what), { recursive: true });
  await rename(join(dataDir, what), join(dataDir, name));
}

/**
 * What an earlier start set aside goes, once the catalog has given this node new replicas; unless the node holds topics of
 * one or two replicas, of which it may be all that is left.
 */
export async function forgetSetAside({ dataDir, identity }: DataFolder, nodeId: number, catalog: CatalogMachine): Promise<void> {
  for (const { partitions } of catalog.topics())
    for (const { replicas } of partitions) if (replicas.length < 3 && replicas.some((replica) => nodeOfReplica(replica) === nodeId)) return;
  const ofThisStart = `${PREFIX}${identity.meta.incarnation}-`;
  for (const name of await readdir(dataDir))
    if (name.startsWith(PREFIX) && !name.startsWith(ofThisStart)) await rm(join(dataDir, name), { recursive: true, force: true });
}
