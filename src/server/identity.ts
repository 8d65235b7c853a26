// Who this node is, and what it may still rely on of what its directory holds.

import type { NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Disk } from "../log/disk.ts";
import { isNodeMeta, openNodeMeta, withNewStore, withoutCatalog, writeNodeMeta, type NodeMeta } from "./node-meta.ts";

/** Folders that a node makes beside its identity. */
export const DATA_FOLDERS = ["store", "catalog", "log"] as const;

export type IdentityComponents = {
  readonly disk: Disk;
  readonly newStoreId: () => string;
  readonly logger: Logger;
};

export class Identity {
  private readonly directory: string;
  private readonly components: IdentityComponents;
  private readonly logger: Logger;
  /** The incarnation with which the process began; what it opens again has later ones. */
  readonly startedAs: number;
  private current: NodeMeta;
  /** What was begun with the file, one after the other; never rejects. */
  private underWay: Promise<void> = Promise.resolve();

  private constructor(directory: string, components: IdentityComponents, meta: NodeMeta) {
    this.directory = directory;
    this.components = components;
    this.logger = components.logger;
    this.current = meta;
    this.startedAs = meta.incarnation;
  }

  static async open(settings: { directory: string; clusterId: string; nodeId: NodeId }, components: IdentityComponents): Promise<Identity> {
    const { disk, newStoreId } = components;
    const names = await disk.list(settings.directory);
    const hasData = DATA_FOLDERS.some((folder) => names.includes(folder));
    const { meta, damage } = await openNodeMeta({ ...settings, hasData, disk, newStoreId });
    const identity = new Identity(settings.directory, components, meta);
    if (damage !== null) await identity.lostStore(damage);
    return identity;
  }

  get meta(): NodeMeta {
    return this.current;
  }

  get actedView(): number {
    return this.current.actedView;
  }

  /** Something is about to be removed on account of this version of the catalog. Once it resolves no start forgets that. */
  async actOn(view: number): Promise<void> {
    await this.save((meta) => ({ ...meta, actedView: Math.max(meta.actedView, view) }));
  }

  /** The node has a replica of the catalog, of this life. */
  async joined(life: number): Promise<void> {
    await this.save((meta) => ({ ...meta, catalogLife: life, lostLife: -1, mustJoin: false }));
  }

  /** Nothing here can be relied on: the cluster is to take it for a new disk and bring everything back. */
  async lostStore(reason: string): Promise<void> {
    this.logger.error({ reason }, "the data of this node cannot be relied on; it joins again and fetches its replicas from the others");
    await this.save((meta) => withNewStore(meta, this.components.newStoreId()));
  }

  async lostCatalog(reason: string): Promise<void> {
    this.logger.error({ reason }, "the catalog's replica on this node is damaged; it is fetched again from the other nodes");
    await this.save(withoutCatalog);
  }

  /** Writes the identity again if the file is not what it should be. */
  async scrub(): Promise<void> {
    await this.inTurn(async () => {
      if (await isNodeMeta(this.components.disk, this.directory, this.current)) return;
      this.logger.warn({}, "the file of this node's identity is damaged: it is written again");
      await writeNodeMeta(this.components.disk, this.directory, this.current);
    });
  }

  /** The cluster has seen a later start of this node than the directory knows of. */
  async outrun(incarnation: number): Promise<void> {
    await this.save((meta) => ({ ...meta, incarnation: Math.max(meta.incarnation, incarnation) }));
  }

  /** All parts are about to be opened again: to the others that is a start, for what the parts knew is gone, their consumers too. */
  async startAgain(): Promise<void> {
    await this.save((meta) => ({ ...meta, incarnation: meta.incarnation + 1 }));
  }

  private save(change: (meta: NodeMeta) => NodeMeta): Promise<void> {
    return this.inTurn(async () => {
      const meta = change(this.current);
      await writeNodeMeta(this.components.disk, this.directory, meta);
      this.current = meta;
    });
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.underWay.then(work);
    this.underWay = done.catch(() => {});
    return done;
  }
}
