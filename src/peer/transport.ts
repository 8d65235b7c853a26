import type { NodeId } from "../base/ids.ts";

// The door to the other nodes: ordered frames of bytes, per node pair and lane. TCP in the product, virtual in a simulator.

/** Raft traffic, small and urgent: one frame per turn. */
export const LANE_RAFT = 0;
/** Forwarded requests and their answers. */
export const LANE_FORWARD = 1;
/** Snapshots and catch-up, on a connection of its own. */
export const LANE_BULK = 2;
export type Lane = 0 | 1 | 2;

/** What a peer says of itself when its link comes up. `incarnation` grows with each start of its process, or of all its parts. */
export type PeerGreeting = {
  readonly incarnation: number;
  /** The newest version of the machines' rules that its release knows. */
  readonly rulesVersion: number;
  /** Its release takes part when replicas compare what they have applied. */
  readonly compares: boolean;
  readonly joining: boolean;
  readonly used: boolean;
};

export interface PeerHandler {
  /** `frame` is the callee's: it is never reused by the transport. */
  onFrame(from: NodeId, lane: Lane, frame: Uint8Array): void;
  /** The node can be reached (again). */
  onUp(peer: NodeId, greeting: PeerGreeting): void;
  /** Closed connection (at once) or silence (after the liveness timeout). Frames under way may be lost. */
  onDown(peer: NodeId, reason: string): void;
  /** The bulk lane of a node that is up can be used (again): of what was sent before some may be lost. */
  onBulkUp(peer: NodeId): void;
  /** The peer took what was queued for it: `send` works again after it had returned false. */
  onDrain(peer: NodeId, lane: Lane): void;
  /** A peer refused us or we refused it for good: wrong cluster, two nodes with one id, another data directory. */
  onRefused(peer: NodeId | null, code: string, reason: string): void;
}

export interface PeerTransport {
  /**
   * Queues one frame made of `parts` (sent back to back, no copy; they must not change afterwards). False = not up, or
   * more than PEER_SEND_BYTES_MAX are waiting: the frame was NOT taken; treat the peer as unreachable.
   */
  send(to: NodeId, lane: Lane, parts: readonly Uint8Array[]): boolean;
  isUp(peer: NodeId): boolean;
  /** Of the start of the peer that is up; 0 = it is not. */
  incarnationOf(peer: NodeId): number;
  /** Adds a peer or changes its address. */
  setPeer(peer: NodeId, host: string, port: number): void;
  removePeer(peer: NodeId): void;
}
