// The links of a node to all others. Of each pair the node with the smaller number dials: one connection for raft frames
// and forwarded requests, one for bulk. The other knocks while it hears nothing. Liveness is per pair: a closed
// connection tells at once, silence after `livenessTimeoutMs`.

import { assert } from "../base/assert.ts";
import { DecodeError } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { Random } from "../base/prng.ts";
import { Connection, TYPE_HELLO, TYPE_PING, TYPE_REFUSAL } from "./connection.ts";
import {
  CHANNEL_BULK,
  CHANNEL_KNOCK,
  CHANNEL_MAIN,
  decodeHello,
  decodeRefusal,
  encodeHello,
  encodeRefusal,
  type Channel,
  type Hello,
  type NodeState,
  type Refusal,
} from "./hello.ts";
import type { PeerListener, PeerNetwork, PeerSocket } from "./network.ts";
import { LANE_BULK, type Lane, type PeerHandler, type PeerTransport } from "./transport.ts";

export type LinkSettings = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly storeId: string;
  readonly incarnation: number;
  readonly rulesVersion: number;
  readonly listenHost: string;
  readonly listenPort: number;
  readonly livenessTimeoutMs: number;
};

export type LinkComponents = {
  readonly network: PeerNetwork;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly handler: PeerHandler;
  readonly memory: PayloadMemory;
  /** The last word on a peer that says who it is; null = welcome. */
  readonly admit: (peer: NodeId, hello: Hello) => Refusal | null;
  /** How far this node is, for its hellos. */
  readonly state: () => NodeState;
};

const HANDSHAKE_TIMEOUT_MS = 5_000;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 1_000;
const CONNECTIONS_MAX = 1_024;
/** Pings within the time after which silence is suspicion. */
const PINGS_PER_TIMEOUT = 5;
/** The same complaint is written down once in so long. */
const COMPLAINT_MS = 60_000;

type Established = {
  readonly connection: Connection;
  readonly hello: Hello;
  heardBytes: number;
  /** Rounds of pings that this node made since it last heard of the other side: what it slept through does not count. */
  silentRounds: number;
  sentFrames: number;
};
type Peer = {
  readonly id: NodeId;
  host: string;
  port: number;
  main: Established | null;
  bulk: Established | null;
  retry: Timer | null;
  /** A connection of ours is on its way, by channel. */
  readonly dialing: Set<Channel>;
  failures: number;
};

export class PeerLinks implements PeerTransport {
  private readonly settings: LinkSettings;
  private readonly components: LinkComponents;
  private listener: PeerListener | null = null;
  private readonly peers = new Map<NodeId, Peer>();
  private readonly strangers = new Set<Connection>();
  private readonly complaints = new Map<string, number>();
  private pingTimer: Timer | null = null;
  private isClosed = false;

  constructor(settings: LinkSettings, components: LinkComponents) {
    this.settings = settings;
    this.components = components;
  }

  async start(): Promise<void> {
    const { listenHost, listenPort } = this.settings;
    const options = { host: listenHost, port: listenPort, connectionsMax: CONNECTIONS_MAX };
    this.listener = await this.components.network.listen(options, (socket) => this.accept(socket));
    this.schedulePing();
  }

  get port(): number {
    assert(this.listener !== null, "the links listen");
    return this.listener.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
    this.pingTimer?.cancel();
    for (const peer of this.peers.values()) {
      peer.retry?.cancel();
      peer.main?.connection.close("this node stops");
      peer.bulk?.connection.close("this node stops");
    }
    for (const stranger of this.strangers) stranger.close("this node stops");
    await this.listener?.close();
  }

  send(to: NodeId, lane: Lane, parts: readonly Uint8Array[]): boolean {
    const peer = this.peers.get(to);
    const link = lane === LANE_BULK ? peer?.bulk : peer?.main;
    return link?.connection.send(lane, parts) ?? false;
  }

  isUp(peer: NodeId): boolean {
    return this.peers.get(peer)?.main !== null && this.peers.has(peer);
  }

  incarnationOf(peer: NodeId): number {
    return this.peers.get(peer)?.main?.hello.incarnation ?? 0;
  }

  setPeer(id: NodeId, host: string, port: number): void {
    const known = this.peers.get(id);
    if (known !== undefined) {
      known.host = host;
      known.port = port;
      return;
    }
    const peer = newPeer(id, host, port);
    this.peers.set(id, peer);
    this.reach(peer);
  }

  removePeer(id: NodeId): void {
    const peer = this.peers.get(id);
    if (peer === undefined) return;
    this.peers.delete(id);
    peer.retry?.cancel();
    peer.main?.connection.close("the peer was removed");
    peer.bulk?.connection.close("the peer was removed");
  }

  /** Dials, or knocks if the other side is to dial. */
  private reach(peer: Peer): void {
    if (this.isClosed || !this.peers.has(peer.id)) return;
    const dials = this.settings.nodeId < peer.id;
    if (dials) {
      if (peer.main === null) this.dial(peer, CHANNEL_MAIN);
      else if (peer.bulk === null) this.dial(peer, CHANNEL_BULK);
    } else if (peer.main === null) this.dial(peer, CHANNEL_KNOCK);
  }

  private reachLater(peer: Peer): void {
    if (this.isClosed || peer.retry !== null) return;
    const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(peer.failures, 10));
    peer.retry = this.components.clock.schedule(ceiling / 2 + this.components.random.below(Math.ceil(ceiling / 2)), () => {
      peer.retry = null;
      this.reach(peer);
    });
  }

  private dial(peer: Peer, channel: Channel): void {
    if (peer.dialing.has(channel)) return;
    peer.dialing.add(channel);
    const socket = this.components.network.connect(peer.host, peer.port);
    let established = false;
    const connection: Connection = new Connection(socket, this.components.memory, {
      frame: (type, body) => {
        if (established) this.frame(peer, connection, type, body);
        else {
          peer.dialing.delete(channel);
          established = this.answered(peer, channel, connection, type, body);
        }
      },
      closed: (reason) => {
        timer.cancel();
        if (!established) peer.dialing.delete(channel);
        if (!established && channel !== CHANNEL_KNOCK) peer.failures += 1;
        this.lost(peer, connection, reason);
        this.reachLater(peer);
      },
      drained: () => this.components.handler.onDrain(peer.id, channel === CHANNEL_BULK ? LANE_BULK : 0),
    });
    const timer = this.components.clock.schedule(HANDSHAKE_TIMEOUT_MS, () => {
      if (!established) connection.close("no answer to the hello");
    });
    connection.send(TYPE_HELLO, [this.hello(channel)]);
  }

  private hello(channel: Channel): Uint8Array {
    const { clusterId, nodeId, storeId, incarnation, rulesVersion } = this.settings;
    const who = { clusterId, nodeId, storeId, incarnation, rulesVersion, compares: true };
    return encodeHello({ ...who, channel, port: this.port, ...this.components.state() });
  }

  /** The other side's answer to our hello. True when the link is up. */
  private answered(peer: Peer, channel: Channel, connection: Connection, type: number, body: Uint8Array): boolean {
    try {
      if (type === TYPE_REFUSAL) {
        const { code, reason } = decodeRefusal(body);
        peer.failures += 1;
        connection.close(`refused: ${code}`);
        this.components.handler.onRefused(peer.id, code, reason);
        return false;
      }
      const hello = type === TYPE_HELLO ? decodeHello(body) : null;
      if (hello === null || "code" in hello) throw new DecodeError(hello?.reason ?? "no hello");
      const refusal =
        this.judge(hello) ??
        (hello.nodeId === peer.id
          ? null
          : { code: "UNKNOWN_NODE" as const, reason: `node ${hello.nodeId} answers at the address of node ${peer.id}` });
      if (refusal !== null) {
        peer.failures += 1;
        connection.close(`refused: ${refusal.code}`);
        this.complain(`${peer.host}:${peer.port}`, refusal);
        return false;
      }
      if (channel === CHANNEL_KNOCK) {
        connection.close("knocked");
        return false;
      }
      this.established(peer, connection, hello, channel);
      return true;
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      connection.close(`malformed hello: ${error.message}`);
      return false;
    }
  }

  private accept(socket: PeerSocket): void {
    let peer: Peer | null = null;
    const connection: Connection = new Connection(socket, this.components.memory, {
      frame: (type, body) => {
        if (peer === null) peer = this.welcome(connection, type, body);
        else this.frame(peer, connection, type, body);
      },
      closed: (reason) => {
        timer.cancel();
        this.strangers.delete(connection);
        if (peer === null) return;
        this.lost(peer, connection, reason);
        this.reachLater(peer);
      },
      drained: () => {
        if (peer !== null) this.components.handler.onDrain(peer.id, peer.bulk?.connection === connection ? LANE_BULK : 0);
      },
    });
    this.strangers.add(connection);
    const timer = this.components.clock.schedule(HANDSHAKE_TIMEOUT_MS, () => {
      if (peer === null) connection.close("no hello in time");
    });
  }

  /** The first frame of an accepted connection: null when it is not (or not to stay) a link. */
  private welcome(connection: Connection, type: number, body: Uint8Array): Peer | null {
    const from = connection.socket.remoteAddress ?? "?";
    try {
      const hello = type === TYPE_HELLO ? decodeHello(body) : null;
      if (hello === null) throw new DecodeError("the first frame is not a hello");
      const refusal = "code" in hello ? hello : this.judge(hello);
      if (refusal !== null || "code" in hello) {
        this.complain(from, refusal!);
        connection.send(TYPE_REFUSAL, [encodeRefusal(refusal!)]);
        connection.end("refused");
        return null;
      }
      connection.send(TYPE_HELLO, [this.hello(hello.channel)]);
      let peer = this.peers.get(hello.nodeId);
      if (hello.channel === CHANNEL_KNOCK) {
        connection.end("knock answered");
        // Of a node that joins nobody knows the address yet.
        if (peer === undefined && hello.joining) this.setPeer(hello.nodeId, from, hello.port);
        if (peer !== undefined && peer.main === null) {
          peer.retry?.cancel();
          peer.retry = null;
          peer.failures = 0;
          this.reach(peer);
        }
        return null;
      }
      if (peer === undefined) {
        peer = newPeer(hello.nodeId, from, hello.port);
        this.peers.set(hello.nodeId, peer);
      }
      this.strangers.delete(connection);
      this.established(peer, connection, hello, hello.channel);
      return peer;
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.complain(from, { code: "VERSION", reason: `not a Flotilla peer: ${error.message}` });
      connection.close("malformed hello");
      return null;
    }
  }

  private judge(hello: Hello): Refusal | null {
    const { clusterId, nodeId, storeId } = this.settings;
    if (hello.clusterId !== clusterId)
      return { code: "WRONG_CLUSTER", reason: `this is cluster ${clusterId}, not ${hello.clusterId}; check clusterId and peers` };
    if (hello.nodeId === nodeId)
      return {
        code: "DUPLICATE_NODE",
        reason: `node id ${nodeId} is this node's own (store ${storeId}); give the other one another nodeId`,
      };
    const known = this.peers.get(hello.nodeId)?.main?.hello;
    if (known !== undefined && known.storeId !== hello.storeId) {
      return {
        code: "DUPLICATE_NODE",
        reason: `node id ${hello.nodeId} is in use by another process (store ${known.storeId}); give this one another nodeId`,
      };
    }
    return this.components.admit(hello.nodeId, hello);
  }

  private established(peer: Peer, connection: Connection, hello: Hello, channel: Channel): void {
    connection.established();
    peer.failures = 0;
    if (channel === CHANNEL_BULK) {
      const old = peer.bulk;
      peer.bulk = newEstablished(connection, hello);
      old?.connection.close("replaced by a newer connection");
      if (peer.main !== null) this.components.handler.onBulkUp(peer.id);
      return;
    }
    const old = peer.main;
    if (old !== null) {
      // The other side lost it without our noticing: whatever was on it is gone.
      peer.main = null;
      old.connection.close("replaced by a newer connection");
      this.components.handler.onDown(peer.id, "the peer connected again");
    }
    peer.main = newEstablished(connection, hello);
    this.components.handler.onUp(peer.id, hello);
    // The bulk connection follows, unless it came first: it was on its way when the main one was lost.
    if (peer.bulk !== null) this.components.handler.onBulkUp(peer.id);
    this.reach(peer);
  }

  private frame(peer: Peer, connection: Connection, type: number, body: Uint8Array): void {
    if (type === TYPE_PING) return;
    if (type > LANE_BULK) {
      connection.close(`frame of unknown type ${type}`);
      return;
    }
    try {
      this.components.handler.onFrame(peer.id, type as Lane, body);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.components.logger.error({ peer: peer.id, error: error.message }, "malformed frame from a peer");
      connection.close(`malformed frame: ${error.message}`);
    }
  }

  private lost(peer: Peer, connection: Connection, reason: string): void {
    if (peer.bulk?.connection === connection) peer.bulk = null;
    if (peer.main?.connection !== connection) return;
    peer.main = null;
    peer.bulk?.connection.close("the main connection is gone");
    peer.bulk = null;
    if (!this.isClosed) this.components.handler.onDown(peer.id, reason);
  }

  private schedulePing(): void {
    this.pingTimer = this.components.clock.schedule(this.settings.livenessTimeoutMs / PINGS_PER_TIMEOUT, () => {
      // What the peers sent while this node was at something else lies unread: it is looked at first.
      this.components.clock.defer(() => this.pingAll());
      if (!this.isClosed) this.schedulePing();
    });
  }

  /**
   * After a stall of our own, however long, one round: the peers may have been as silent because they stalled with us. The bulk
   * connection is judged by itself: it may go dead alone, and nobody else would notice.
   */
  private pingAll(): void {
    for (const { main, bulk } of this.peers.values()) {
      if (main !== null) this.ping(main);
      if (bulk !== null) this.ping(bulk);
    }
  }

  private ping(established: Established): void {
    const { connection } = established;
    if (connection.receivedBytes !== established.heardBytes) {
      established.heardBytes = connection.receivedBytes;
      established.silentRounds = 0;
    } else if (++established.silentRounds >= PINGS_PER_TIMEOUT) {
      connection.close(`nothing was heard for ${this.settings.livenessTimeoutMs} ms`);
      return;
    }
    if (connection.sentFrames === established.sentFrames) connection.send(TYPE_PING, []);
    established.sentFrames = connection.sentFrames;
  }

  private complain(from: string, refusal: Refusal): void {
    const key = `${from} ${refusal.code}`;
    const now = this.components.clock.monotonicMs();
    const last = this.complaints.get(key);
    if (last !== undefined && now - last < COMPLAINT_MS) return;
    if (this.complaints.size > CONNECTIONS_MAX) this.complaints.clear();
    this.complaints.set(key, now);
    this.components.logger.warn({ from, code: refusal.code, reason: refusal.reason }, "peer connection refused");
  }
}

function newPeer(id: NodeId, host: string, port: number): Peer {
  return {
    id,
    host,
    port,
    main: null,
    bulk: null,
    retry: null,
    dialing: new Set(),
    failures: 0,
  };
}

function newEstablished(connection: Connection, hello: Hello): Established {
  return { connection, hello, heardBytes: connection.receivedBytes, silentRounds: 0, sentFrames: 0 };
}
