// How the catalog comes to know nodes: this one tells where it is until the catalog has taken it, and the catalog's leader
// takes in nodes that have no replica of the catalog yet.

import { ByteWriter } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import { CATALOG_CONFLICT, CATALOG_OK, CATALOG_STORE_MISMATCH } from "../machine/catalog/codes.ts";
import {
  JOIN_NODE,
  decodeCatalogCommand,
  encodeInitialize,
  encodeRegisterNode,
  type NodeRegistration,
} from "../machine/catalog/commands.ts";
import type { Serve } from "./forwarder.ts";
import type { Router } from "./router.ts";

export const OP_JOIN = 7;
const REGISTER_RETRY_MS = 200;

export type RegistrarSettings = { readonly clusterId: string; readonly registration: NodeRegistration };
export type RegistrarComponents = {
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly clock: Clock;
  readonly registered: () => void;
  /** The cluster has seen a later start of this node, of this incarnation. */
  readonly outrun: (incarnation: number) => void;
  /** The cluster counts on another disk of this node. */
  readonly replaced: (reason: string) => void;
};

export class Registrar {
  private readonly settings: RegistrarSettings;
  private readonly components: RegistrarComponents;
  private isRegistered = false;
  /** The catalog here has known this start of the node. */
  private wasInCatalog = false;
  private stopped = false;

  constructor(settings: RegistrarSettings, components: RegistrarComponents) {
    this.settings = settings;
    this.components = components;
  }

  /** The cluster knows this start of the node, on this disk, and this node's catalog is no older than that. */
  get isInCatalog(): boolean {
    const { id, storeId, incarnation } = this.settings.registration;
    const row = this.components.catalog.node(id);
    return this.isRegistered && row?.storeId === storeId && row.incarnation === incarnation;
  }

  /** Tells the catalog where this node is; again until the catalog has taken it. */
  register(): void {
    if (this.stopped) return;
    const { registration } = this.settings;
    const { router, clock, registered, outrun, replaced } = this.components;
    router.catalog(encodeRegisterNode(registration), (error, code, value, detail) => {
      if (error === null && code === CATALOG_OK) {
        this.isRegistered = true;
        registered();
        return;
      }
      if (error === null && code === CATALOG_CONFLICT) {
        outrun(value);
        return;
      }
      if (error === null && code === CATALOG_STORE_MISMATCH) {
        const reason = detail === null ? "" : new TextDecoder().decode(detail);
        replaced(`the cluster knows node ${registration.id} with another data directory: ${reason}`);
        return;
      }
      clock.schedule(REGISTER_RETRY_MS, () => this.register());
    });
  }

  /**
   * The catalog here changed. Once it has known this disk, another one in its place is news: another process under this
   * number has joined. What that means is asked of the log, as at the start.
   */
  catalogChanged(): void {
    const { id, storeId } = this.settings.registration;
    const row = this.components.catalog.node(id);
    if (this.isInCatalog) this.wasInCatalog = true;
    else if (this.wasInCatalog && row !== undefined && row.storeId !== storeId) {
      this.wasInCatalog = false;
      this.register();
    }
  }

  stop(): void {
    this.stopped = true;
  }

  /** This node leads the catalog: a new one gets the cluster's name. */
  leadsCatalog(): void {
    const { catalog, router } = this.components;
    if (catalog.clusterId === "") router.catalog(encodeInitialize(this.settings.clusterId), () => {});
  }

  /** A node without a replica of the catalog asks for one. */
  readonly serveJoin = (from: NodeId, body: Uint8Array, reply: Parameters<Serve>[2]): void => {
    const command = decodeCatalogCommand(body);
    if (command?.kind !== JOIN_NODE || command.node.id !== from) {
      reply(new BrokerError("INVALID_ARGUMENT", "not a request of this node to join"), []);
      return;
    }
    this.components.router.catalog(body, (error, code, value) => {
      if (error !== null) reply(error, []);
      else if (code !== CATALOG_OK) reply(new BrokerError("CONFLICT", `the catalog refused the node (${code})`), []);
      else reply(null, [new ByteWriter(4).u32(value).finish()]);
    });
  };
}
