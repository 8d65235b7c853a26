// How new this node's catalog is. It may lag by moments, by as long as the node is cut off, and after a start by as long as
// the node was away: what stands in it exists, or did a moment ago; that something is not there may only be said once it is as
// new as the catalog itself was when the question came.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";
import { CATALOG_GROUP, type NodeId } from "../base/ids.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { vhostOf } from "./admin.ts";
import type { Serve } from "./forwarder.ts";
import { LEADER_WAIT_MS, type Router } from "./router.ts";
import { endAfter } from "./wait-until.ts";

export const OP_VIEW = 9;
const RETRY_MS = 20;

export type ViewComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly clock: Clock;
  /** Resolves when this node's catalog has come to what the condition waits for. */
  readonly caughtUp: (condition: () => boolean, signal: AbortSignal) => Promise<void>;
};

export class View {
  private readonly components: ViewComponents;
  private underWay: Promise<void> | null = null;
  private next: Promise<void> | null = null;

  constructor(components: ViewComponents) {
    this.components = components;
  }

  /** Resolves at once where the topic, and so many partitions of it, are known here; else once that can be said for sure. */
  async sure(vhost: string, topic: string, partitions = 1): Promise<void> {
    const row = this.components.catalog.topic(vhostOf(vhost), topic);
    if (row === undefined || row.partitions.length < partitions) await this.current();
  }

  /** Resolves at once where the vhost is known here; else once that can be said for sure. */
  async sureOfVhost(vhost: string): Promise<void> {
    if (!this.components.catalog.declarations.hasVhost(vhostOf(vhost))) await this.current();
  }

  /**
   * Resolves once this node's catalog is as new as the catalog was at the call; rejects with NO_LEADER if nobody can tell within
   * LEADER_WAIT_MS. Those who come while one question is under way share the next one.
   */
  current(): Promise<void> {
    if (this.underWay === null) return this.begin();
    this.next ??= this.underWay.then(
      () => this.begin(),
      () => this.begin(),
    );
    return this.next;
  }

  readonly serveView: Serve = (_from, _body, reply) => {
    this.confirmed().then(
      (version) => reply(null, [new ByteWriter(8).u64(version).finish()]),
      (error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
        reply(error, []);
      },
    );
  };

  private begin(): Promise<void> {
    this.next = null;
    const asked = this.ask().finally(() => {
      if (this.underWay === asked) this.underWay = null;
    });
    this.underWay = asked;
    return asked;
  }

  private async ask(): Promise<void> {
    const { catalog, clock, caughtUp } = this.components;
    const deadlineMs = clock.monotonicMs() + LEADER_WAIT_MS;
    const end = endAfter(clock, LEADER_WAIT_MS);
    for (;;) {
      try {
        const version = await this.versionOfLeader(deadlineMs - clock.monotonicMs(), end);
        await caughtUp(() => catalog.viewVersion >= version, end);
        return;
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        // The leader runs a release that cannot be asked.
        if (error.code === "INTERNAL") return;
        if (clock.monotonicMs() >= deadlineMs)
          throw new BrokerError("NO_LEADER", "this node's catalog may be out of date, and nobody tells: is a majority of the nodes up?", {
            group: String(CATALOG_GROUP),
          });
      }
      await this.components.router.pause(RETRY_MS);
    }
  }

  private async versionOfLeader(waitMs: number, end: AbortSignal): Promise<number> {
    const { router, nodeId } = this.components;
    const leader = await router.leader(CATALOG_GROUP, waitMs);
    if (leader === nodeId) return this.confirmed();
    return new ByteReader(await router.ask(leader, OP_VIEW, [], end)).u64();
  }

  /** Of this node as the catalog's leader: a version that is no older than any that was there at the call. */
  private async confirmed(): Promise<number> {
    const { host, catalog } = this.components;
    const isLeader = await new Promise<boolean>((resolve) => host.readBarrier(CATALOG_GROUP, resolve));
    if (!isLeader) throw new BrokerError("NO_LEADER", "this node does not lead the catalog any more", { group: String(CATALOG_GROUP) });
    return catalog.viewVersion;
  }
}
