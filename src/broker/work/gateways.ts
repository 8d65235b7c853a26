// Which starts of nodes are over, as far as their consumers are concerned: what those hold goes back then.

import { gatewayOf, nodeOfGateway, type NodeId } from "../../base/ids.ts";
import type { CatalogMachine } from "../../machine/catalog/catalog.ts";

/** A node that is away for less than this keeps what its consumers hold. */
const GRACE_MS = 3_000;

export class Gateways {
  private readonly catalog: CatalogMachine;
  /** Of the start of the node that this one is linked with, or is; 0 = none. */
  private readonly incarnationOf: (node: NodeId) => number;
  private readonly downSinceMs = new Map<NodeId, number>();
  /** Gateways that should be later starts than the one that is linked, since when they have been seen; and in the present round. */
  private strange = new Map<number, number>();
  private strangeNow = new Map<number, number>();

  constructor(catalog: CatalogMachine, incarnationOf: (node: NodeId) => number) {
    this.catalog = catalog;
    this.incarnationOf = incarnationOf;
  }

  /** Begins a round, in which all gateways are asked for that matter; `nowMs` never goes back. */
  begin(nowMs: number): void {
    this.strange = this.strangeNow;
    this.strangeNow = new Map();
    for (const { id } of this.catalog.nodes())
      if (this.incarnationOf(id) > 0) this.downSinceMs.delete(id);
      else if (!this.downSinceMs.has(id)) this.downSinceMs.set(id, nowMs);
  }

  isGone(gateway: number, nowMs: number): boolean {
    const node = nodeOfGateway(gateway);
    if (this.catalog.node(node) === undefined) return true;
    const incarnation = this.incarnationOf(node);
    if (incarnation === 0) return nowMs - (this.downSinceMs.get(node) ?? nowMs) >= GRACE_MS;
    const linked = gatewayOf(node, incarnation);
    if (linked >= gateway) return linked > gateway;
    // The link is about to be replaced; or the node lost its disk, and counts its starts anew.
    const sinceMs = this.strange.get(gateway) ?? nowMs;
    this.strangeNow.set(gateway, sinceMs);
    return nowMs - sinceMs >= GRACE_MS;
  }
}
