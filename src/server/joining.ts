// How a node that has no replica of the catalog comes to one. In a new cluster the nodes named in the settings found it
// together. In one that exists the catalog gives the node a replica of its own, under an id that was never used: whatever
// an emptied disk once promised, nobody counts on it any more.

import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { replicaId, toNodeId, type NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { OP_JOIN } from "../broker/registrar.ts";
import { Forwarder } from "../broker/forwarder.ts";
import { splitMembers } from "../broker/reshaper.ts";
import { ByteReader } from "../base/bytes.ts";
import { encodeJoinNode, type NodeRegistration } from "../machine/catalog/commands.ts";
import type { PeerLinks } from "../peer/links.ts";
import { LANE_FORWARD, type PeerHandler } from "../peer/transport.ts";

const ROUND_MS = 100;
/** Says what it waits for this often. */
const COMPLAINT_MS = 5_000;
/** An answer that takes longer is asked for again: asking twice changes nothing. */
const ANSWER_MS = 5_000;

export type JoiningSettings = {
  readonly registration: NodeRegistration;
  readonly peers: readonly NodeId[];
  readonly lostLife: number;
  readonly mustJoin: boolean;
};

export type JoiningComponents = {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Links whose events go to `handler`, and the way to start them. */
  readonly links: (handler: Pick<PeerHandler, "onFrame" | "onUp" | "onDown">) => PeerLinks;
  readonly start: (links: PeerLinks) => Promise<void>;
};

export class Joining {
  private readonly settings: JoiningSettings;
  private readonly components: JoiningComponents;
  /** Whether each peer that was heard is part of a cluster that exists. */
  private readonly heard = new Map<NodeId, boolean>();
  private readonly up = new Set<NodeId>();
  private turn = 0;

  constructor(settings: JoiningSettings, components: JoiningComponents) {
    this.settings = settings;
    this.components = components;
  }

  /** Resolves with the life of this node's replica of the catalog; rejects when `signal` ends the wait. */
  async run(signal: AbortSignal): Promise<number> {
    if (this.isFounder()) return 0;
    const links = this.components.links({
      onFrame: (from, lane, frame) => {
        if (lane === LANE_FORWARD) forwarder.onFrame(from, frame);
      },
      onUp: (peer, { used }) => {
        this.heard.set(peer, used);
        this.up.add(peer);
      },
      onDown: (peer) => {
        this.up.delete(peer);
        forwarder.peerDown(peer);
      },
    });
    const forwarder = new Forwarder({
      send: (to, parts) => links.send(to, LANE_FORWARD, parts),
      operations: new Map(),
      notices: new Map(),
    });
    try {
      await this.components.start(links);
      return await this.wait(forwarder, signal);
    } finally {
      await links[Symbol.asyncDispose]();
    }
  }

  private async wait(forwarder: Forwarder, signal: AbortSignal): Promise<number> {
    const { clock, logger } = this.components;
    let complainedMs = clock.monotonicMs();
    let reason = "too few of the other nodes have been heard to tell whether the cluster is new";
    for (;;) {
      signal.throwIfAborted();
      if (this.isFounder()) return 0;
      const peers = [...this.up];
      if (peers.length > 0 && (this.settings.mustJoin || [...this.heard.values()].some((used) => used))) {
        const answer = await this.ask(forwarder, peers[this.turn++ % peers.length]!);
        if (typeof answer === "number") return answer;
        reason = answer.message;
      }
      if (clock.monotonicMs() - complainedMs > COMPLAINT_MS) {
        complainedMs = clock.monotonicMs();
        logger.warn({ reason, up: peers, peers: this.settings.peers }, "waiting to join the cluster");
      }
      await new Promise<void>((resolve) => clock.schedule(ROUND_MS, resolve));
    }
  }

  /**
   * Only while nobody knows of a cluster, and only once so many of the founding voters were heard that no majority can
   * have been formed with this node before: its own promises may be gone with a disk.
   */
  private isFounder(): boolean {
    const { mustJoin, peers, registration } = this.settings;
    if (mustJoin || [...this.heard.values()].some((used) => used)) return false;
    const voters = splitMembers([...peers].sort((a, b) => a - b).map((peer) => replicaId(peer, 0))).voters.map((peer) => toNodeId(peer));
    const others = voters.filter((peer) => peer !== registration.id);
    const majority = Math.floor(voters.length / 2) + 1;
    return others.filter((peer) => this.heard.has(peer)).length >= Math.min(voters.length - majority + 1, others.length);
  }

  private ask(forwarder: Forwarder, peer: NodeId): Promise<number | BrokerError> {
    const { registration, lostLife } = this.settings;
    return new Promise((resolve) => {
      const cancel = forwarder.call(peer, OP_JOIN, [encodeJoinNode({ node: registration, lostLife })], (error, body) => {
        timer.cancel();
        resolve(error ?? new ByteReader(body).u32());
      });
      const timer = this.components.clock.schedule(ANSWER_MS, () => {
        cancel();
        resolve(new BrokerError("TIMEOUT", `node ${peer} did not answer`));
      });
    });
  }
}
