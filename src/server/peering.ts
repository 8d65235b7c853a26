// The links of a node: who it is, whom it admits.

import { CATALOG_GROUP, lifeOfReplica, type NodeId } from "../base/ids.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { Random } from "../base/prng.ts";
import type { Settings } from "../config/settings.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { Hello, NodeState, Refusal } from "../peer/hello.ts";
import { PeerLinks } from "../peer/links.ts";
import type { PeerNetwork } from "../peer/network.ts";
import type { PeerHandler } from "../peer/transport.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { NodeMeta } from "./node-meta.ts";

export type PeeringComponents = {
  readonly network: PeerNetwork;
  /** The newest rules that the machines of this release know. */
  readonly rulesVersion: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly memory: PayloadMemory;
  readonly handler: Omit<PeerHandler, "onRefused" | "onDrain">;
  /** Null while this node has no replica of the catalog. */
  readonly host: () => ReplicaHost | null;
  readonly peers: readonly { readonly id: number; readonly host: string; readonly port: number }[];
  readonly fatal: (error: Error) => void;
};

/** Links that neither listen nor dial yet: what they say in their hellos must be true first. */
export function makeLinks(settings: Settings, meta: NodeMeta, components: PeeringComponents): PeerLinks {
  const { network, rulesVersion, clock, random, logger, memory, handler, host, peers, fatal } = components;
  const known = new Set(peers.map(({ id }) => id));
  const onRefused = (peer: NodeId | null, code: string, reason: string): void => {
    logger.error({ peer, code, reason }, "peer link refused");
    // The others are right about us: another cluster, or our number taken. Going on can only harm.
    if (peer !== null && (code === "WRONG_CLUSTER" || code === "DUPLICATE_NODE"))
      fatal(new Error(`node ${peer} refused this node (${code}): ${reason}`));
  };
  return new PeerLinks(
    {
      clusterId: settings.clusterId,
      nodeId: settings.nodeId as NodeId,
      storeId: meta.storeId,
      incarnation: meta.incarnation,
      rulesVersion,
      listenHost: settings.host,
      listenPort: settings.peerPort,
      livenessTimeoutMs: settings.electionTimeoutMs,
    },
    {
      network,
      clock,
      random,
      logger,
      memory,
      handler: { ...handler, onRefused, onDrain: () => {} },
      admit: (peer, hello) => admit(host(), known, peer, hello),
      state: () => stateOf(host()),
    },
  );
}

/** Listens, and dials the peers of the settings. */
export async function startLinks(links: PeerLinks, nodeId: number, peers: PeeringComponents["peers"]): Promise<void> {
  await links.start();
  for (const peer of peers) if (peer.id !== nodeId) links.setPeer(peer.id as NodeId, peer.host, peer.port);
}

/**
 * Whether a peer that says hello is a node of this cluster. With which disk is not judged here: the catalog of this node may be
 * older than the peer's last join, and to refuse the peer could keep it so. A node that was replaced hears of it from the
 * catalog's log, when it registers; that alone makes it give up what it holds.
 */
function admit(host: ReplicaHost | null, known: ReadonlySet<number>, peer: NodeId, { joining }: Hello): Refusal | null {
  if (joining) return null;
  const catalog = host?.get(CATALOG_GROUP)?.machine as CatalogMachine | undefined;
  if (catalog?.node(peer) !== undefined) return null;
  if (catalog?.wasForgotten(peer) === true)
    return { code: "UNKNOWN_NODE", reason: `node ${peer} was forgotten; it can come back with an empty data directory` };
  return known.has(peer) ? null : { code: "UNKNOWN_NODE", reason: `node ${peer} is not among the peers of this cluster` };
}

function stateOf(host: ReplicaHost | null): NodeState {
  const replica = host?.get(CATALOG_GROUP);
  if (replica === undefined) return { joining: true, used: false };
  const { raft, descriptor } = replica;
  return { joining: false, used: lifeOfReplica(descriptor.self) > 0 || raft.term > 0 || raft.lastIndex > 1 };
}
