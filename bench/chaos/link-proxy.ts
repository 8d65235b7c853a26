// One directed link between two nodes: whoever dials from one to the other comes through here. Both directions of its
// connections can be held back, slowed down or cut, each for itself: what TCP does when the network below it misbehaves.
// Little is buffered: a direction that is held stops reading, and the sender's own buffers fill up as they would.

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** Bytes that one direction of one connection may have in hand. */
const HELD_BYTES_MAX = 256 * 1024;

/** How one direction of the traffic between two nodes is. */
export type Flow = {
  /** Nothing passes. */
  isHeld: boolean;
  /** Each chunk waits for so long. */
  delayMs: number;
  /** 0 = as fast as it comes. */
  bytesPerSecond: number;
};
export const openFlow = (): Flow => ({ isHeld: false, delayMs: 0, bytesPerSecond: 0 });

/** What a fault did, as its proof. */
export type FlowCounts = { heldBytes: number; slowedBytes: number; cutConnections: number };

export type LinkFlows = {
  /** From who dials to who is dialled, and back. */
  readonly forth: Flow;
  readonly back: Flow;
};

export class LinkProxy {
  private readonly flows: LinkFlows;
  private readonly counts: FlowCounts;
  private readonly targetPort: number;
  private readonly server: Server;
  private readonly pairs = new Set<Pair>();

  constructor(targetPort: number, flows: LinkFlows, counts: FlowCounts) {
    this.targetPort = targetPort;
    this.flows = flows;
    this.counts = counts;
    this.server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.accept(socket));
  }

  /** Resolves with the port to dial. */
  async listen(): Promise<number> {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    return (this.server.address() as { port: number }).port;
  }

  /** Flows have changed: what was held goes on. */
  changed(): void {
    for (const pair of this.pairs) pair.pump();
  }

  /** Cuts all its connections; returns how many. */
  reset(): number {
    const count = this.pairs.size;
    for (const pair of this.pairs) pair.cut();
    this.counts.cutConnections += count;
    return count;
  }

  async close(): Promise<void> {
    for (const pair of this.pairs) pair.cut();
    if (!this.server.listening) return;
    const closed = once(this.server, "close");
    this.server.close();
    await closed;
  }

  private accept(dialler: Socket): void {
    const target = connect({ port: this.targetPort, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const pair: Pair = new Pair(dialler, target, this.flows, this.counts, () => this.pairs.delete(pair));
    this.pairs.add(pair);
  }
}

/** A connection as the dialler sees it, and the one to its target. */
class Pair {
  private readonly sockets: readonly [Socket, Socket];
  private readonly directions: readonly [Direction, Direction];
  private readonly gone: () => void;
  private isGone = false;

  constructor(dialler: Socket, target: Socket, { forth, back }: LinkFlows, counts: FlowCounts, gone: () => void) {
    this.sockets = [dialler, target];
    this.gone = gone;
    const passed = (): void => this.settle();
    this.directions = [new Direction(dialler, target, forth, counts, passed), new Direction(target, dialler, back, counts, passed)];
    for (const socket of this.sockets) {
      // A process that died or refused: the other side hears of it as it would without us, unless that news is held back.
      socket.on("error", () => this.lost(socket));
      socket.on("close", () => this.lost(socket));
    }
  }

  pump(): void {
    for (const direction of this.directions) direction.pump();
    this.settle();
  }

  /** A side that is gone, and that was kept secret or had more to say, may be so no longer. */
  private settle(): void {
    for (const socket of this.sockets) if (socket.destroyed) this.lost(socket);
  }

  cut(): void {
    if (this.isGone) return;
    this.isGone = true;
    for (const direction of this.directions) direction.stop();
    // A reset of one whose end is being sent fails, and leaves a handle for which the process can never end.
    for (const socket of this.sockets)
      if (socket.writableEnded) socket.destroy();
      else if (!socket.destroyed) socket.resetAndDestroy();
    this.gone();
  }

  private lost(socket: Socket): void {
    const [forth, back] = this.directions;
    const direction = socket === this.sockets[0] ? forth : back;
    if (direction.flow.isHeld || direction.hasMore) return;
    this.cut();
  }
}

/** Bytes from one socket to the other. */
class Direction {
  readonly flow: Flow;
  private readonly from: Socket;
  private readonly to: Socket;
  private readonly counts: FlowCounts;
  /** What had waited is through. */
  private readonly passed: () => void;
  private waiting: { readonly chunk: Buffer; readonly dueMs: number }[] = [];
  private waitingBytes = 0;
  private hasEnded = false;
  private timer: NodeJS.Timeout | null = null;
  /** When the bytes passed so far have taken their time at the given rate. */
  private clearMs = 0;

  constructor(from: Socket, to: Socket, flow: Flow, counts: FlowCounts, passed: () => void) {
    this.from = from;
    this.passed = passed;
    this.to = to;
    this.flow = flow;
    this.counts = counts;
    from.on("data", (chunk: Buffer) => this.take(chunk));
    from.on("end", () => {
      this.hasEnded = true;
      this.pump();
    });
    to.on("drain", () => this.pump());
  }

  /** Something still has to pass. */
  get hasMore(): boolean {
    return this.waiting.length > 0 && !this.to.destroyed;
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.waiting = [];
  }

  pump(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (this.to.destroyed) this.waiting = [];
    const hadMore = this.waiting.length > 0;
    while (!this.flow.isHeld && this.waiting.length > 0 && !this.to.writableNeedDrain) {
      const now = performance.now();
      const { chunk, dueMs } = this.waiting[0]!;
      const waitMs = Math.max(dueMs, this.clearMs) - now;
      if (waitMs > 0) {
        this.timer = setTimeout(() => this.pump(), Math.ceil(waitMs));
        break;
      }
      this.waiting.shift();
      this.waitingBytes -= chunk.length;
      const { bytesPerSecond } = this.flow;
      this.clearMs = bytesPerSecond === 0 ? 0 : Math.max(this.clearMs, now) + (chunk.length / bytesPerSecond) * 1_000;
      this.to.write(chunk);
    }
    if (this.waiting.length === 0 && this.hasEnded && !this.flow.isHeld && this.to.writable) this.to.end();
    if (this.waitingBytes >= HELD_BYTES_MAX) this.from.pause();
    else if (this.from.isPaused()) this.from.resume();
    if (hadMore && this.waiting.length === 0) this.passed();
  }

  private take(chunk: Buffer): void {
    const { isHeld, delayMs, bytesPerSecond } = this.flow;
    if (isHeld) this.counts.heldBytes += chunk.length;
    else if (delayMs > 0 || bytesPerSecond > 0) this.counts.slowedBytes += chunk.length;
    // The usual case: nothing waits, nothing is asked for.
    if (!isHeld && delayMs === 0 && bytesPerSecond === 0 && this.waiting.length === 0 && !this.to.writableNeedDrain) {
      this.clearMs = 0;
      this.to.write(chunk);
      return;
    }
    this.waiting.push({ chunk, dueMs: performance.now() + delayMs });
    this.waitingBytes += chunk.length;
    this.pump();
  }
}
