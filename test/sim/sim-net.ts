// A network of byte streams, as TCP gives them: ordered, and nothing lost while both ends live. A cut direction holds what is
// sent until it heals; a connection may be reset, stall, or go dead without either end being told; the end of a machine without
// power is not told to anybody. Over the streams between nodes frames may be shuffled (frame-shuffler.ts).

import { crc32 } from "node:zlib";
import { copyInto } from "../../src/base/copy.ts";
import type { Random } from "../../src/base/prng.ts";
import type { PeerListener, PeerNetwork, PeerSocket } from "../../src/peer/network.ts";
import { FrameShuffler, type Shuffle } from "./frame-shuffler.ts";
import { between, chance, type Owner, type World } from "./world.ts";

/** Bytes of one direction that the two kernels hold; the rest waits with the sender. */
const KERNEL_BYTES = 512 * 1024;
const PIECE_BYTES = 64 * 1024;
/** No answer to a connection attempt for so long is an error. */
const CONNECT_TIMEOUT_US = 20_000_000;

export type NetKnobs = { readonly latencyUs: number; readonly jitterUs: number; readonly splitPercent: number };

/** Told of each effect before it happens and after. */
type EffectWatcher = (kind: string, moment: "before" | "after") => void;
type Listener = { readonly owner: Owner; readonly host: string; readonly accept: (socket: PeerSocket) => void };

/** A frame of TCP on its way. */
type Piece = { readonly kind: "data" | "end" | "reset"; readonly bytes: Buffer };

/** One direction between two machines. */
class Path {
  /** Cuts that are in force: each is healed by itself. */
  cuts = 0;
  /** Extra latency. */
  slowUs = 0;
  held: (() => void)[] = [];
}

export class SimNet {
  readonly world: World;
  readonly random: Random;
  readonly knobs: NetKnobs;
  /** What the kernels do; it never dies. */
  readonly kernel: Owner;
  private readonly paths = new Map<string, Path>();
  private readonly listeners = new Map<string, Listener>();
  readonly sockets = new Set<SimSocket>();
  /** Machines without power. */
  private readonly down = new Set<string>();
  /** What happens to frames between nodes now; null: nothing. */
  shuffle: Shuffle | null = null;
  /** It may ever happen: then each stream is followed from its first frame on. */
  mayShuffle = false;
  /** Told when a fault is felt: something was held, lost or shuffled. */
  felt: (what: string) => void = () => {};

  constructor(world: World, random: Random, knobs: NetKnobs, kernel: Owner) {
    this.world = world;
    this.random = random;
    this.knobs = knobs;
    this.kernel = kernel;
  }

  path(from: string, to: string): Path {
    const key = `${from} ${to}`;
    let path = this.paths.get(key);
    if (path === undefined) this.paths.set(key, (path = new Path()));
    return path;
  }

  /** Nothing gets through in this direction until the returned function was called, once. */
  cut(from: string, to: string): () => void {
    const path = this.path(from, to);
    path.cuts += 1;
    let isOver = false;
    return () => {
      if (isOver || path.cuts === 0) return;
      isOver = true;
      path.cuts -= 1;
      if (path.cuts === 0) this.release(path);
    };
  }

  isCut(from: string, to: string): boolean {
    return this.path(from, to).cuts > 0;
  }

  /** Everything gets through again, and as fast as usual. What goes dead stays dead. */
  heal(): void {
    this.shuffle = null;
    for (const path of this.paths.values()) {
      path.slowUs = 0;
      if (path.cuts === 0) continue;
      path.cuts = 0;
      this.release(path);
    }
    for (const socket of this.sockets) socket.stalledUntilUs = 0;
  }

  private release(path: Path): void {
    const { held } = path;
    path.held = [];
    for (const go of held) go();
  }

  /** Connections from one machine to another, opened by either. */
  between(a: string, b: string): SimSocket[] {
    return [...this.sockets].filter((socket) => socket.host === a && socket.remoteHost === b && socket.other !== null);
  }

  reset(a: string, b: string): void {
    for (const socket of this.between(a, b)) {
      this.felt("reset");
      socket.fail("ECONNRESET");
      socket.other?.fail("ECONNRESET");
    }
  }

  /** The process is gone. Its kernel tells the other sides, unless it is gone as well. */
  ownerDied(owner: Owner, isTold: boolean): void {
    for (const [key, listener] of [...this.listeners]) if (listener.owner === owner) this.listeners.delete(key);
    for (const socket of [...this.sockets]) if (socket.owner === owner) socket.abandoned(isTold);
  }

  machineDown(host: string): void {
    this.down.add(host);
  }

  /** Whoever still holds a connection to what was there before is told so. */
  machineUp(host: string): void {
    if (!this.down.delete(host)) return;
    for (const socket of [...this.sockets]) if (socket.remoteHost === host && socket.other?.isClosed === true) socket.fail("ECONNRESET");
  }

  isDown(host: string): boolean {
    return this.down.has(host);
  }

  /** The network as one process on `host` sees it. */
  for(host: string, owner: Owner, effect: EffectWatcher): PeerNetwork {
    return {
      connect: (to, port) => this.connect(host, owner, effect, to, port),
      listen: async ({ port }, accept): Promise<PeerListener> => {
        const key = `${host}:${port}`;
        if (this.listeners.has(key)) throw new Error(`EADDRINUSE ${key}`);
        this.listeners.set(key, { owner, host, accept });
        return {
          port,
          close: async () => {
            if (this.listeners.get(key)?.owner === owner) this.listeners.delete(key);
          },
        };
      },
    };
  }

  /** Calls back when a piece sent now has arrived; holds it while the direction is cut. */
  travel(from: string, to: string, bytes: number, notBeforeUs: number, arrived: () => void): number {
    const path = this.path(from, to);
    const { latencyUs, jitterUs } = this.knobs;
    const atUs = Math.max(
      notBeforeUs + 1,
      this.world.nowUs + latencyUs + between(this.random, 0, jitterUs) + path.slowUs + Math.round(bytes / 500),
    );
    this.world.after(atUs - this.world.nowUs, this.kernel, "packet", () => {
      if (path.cuts > 0) {
        this.felt("packet held");
        path.held.push(() => void this.world.after(latencyUs, this.kernel, "held packet", arrived));
      } else arrived();
    });
    return atUs;
  }

  private connect(host: string, owner: Owner, effect: EffectWatcher, to: string, port: number): SimSocket {
    effect("connect", "before");
    const near = new SimSocket(this, { owner, host, remoteHost: to, effect, isConnected: false });
    if (owner.isDead) return near;
    this.world.after(CONNECT_TIMEOUT_US, owner, "connect timeout", () => {
      if (near.other === null) near.fail("ETIMEDOUT");
    });
    this.travel(host, to, 60, 0, () => {
      if (this.isDown(to)) return;
      const listener = this.listeners.get(`${to}:${port}`);
      if (listener === undefined || listener.owner.isDead) {
        this.travel(to, host, 60, 0, () => near.fail("ECONNREFUSED"));
        return;
      }
      if (near.isClosed) return;
      const far = new SimSocket(this, { owner: listener.owner, host: to, remoteHost: host, effect: () => {}, isConnected: true });
      far.other = near;
      near.other = far;
      this.world.after(1, listener.owner, "accept", () => listener.accept(far));
      this.travel(to, host, 60, 0, () => near.connected());
    });
    return near;
  }
}

export class SimSocket implements PeerSocket {
  readonly owner: Owner;
  readonly host: string;
  readonly remoteHost: string;
  other: SimSocket | null = null;
  isClosed = false;
  /** What it sends, or sent and has yet to arrive, does so after this. */
  stalledUntilUs = 0;
  /** Nothing that it sends arrives any more, and nobody is told. */
  isHalfOpen = false;
  private readonly shuffler: FrameShuffler;
  private readonly net: SimNet;
  private readonly effect: EffectWatcher;
  private isConnected: boolean;
  private readonly listeners = new Map<string, (argument: never) => void>();
  private corked = 0;
  /** What was written and is not sent, from `waitingFrom` of the first part on. Uncopied, as in a kernel that takes no more for now. */
  private waiting: Uint8Array[] = [];
  private waitingFrom = 0;
  private waitingBytes = 0;
  private flightBytes = 0;
  private isEnding = false;
  private hasEnded = false;
  private mustDrain = false;
  private lastArrivalUs = 0;
  /** Pieces that arrived before one that was sent earlier, and the number of that one. */
  private readonly early = new Map<number, Piece>();
  private nextArrival = 0;
  private nextPiece = 0;
  /**
   * What arrived here and the process has yet to be told of. Each has an event, which tells of the first: events of a process that
   * stands still wait, and when it goes on before its time those of later pieces may come earlier.
   */
  private readonly untold: Piece[] = [];

  constructor(net: SimNet, parts: { owner: Owner; host: string; remoteHost: string; effect: EffectWatcher; isConnected: boolean }) {
    this.net = net;
    this.owner = parts.owner;
    this.host = parts.host;
    this.remoteHost = parts.remoteHost;
    this.effect = parts.effect;
    this.isConnected = parts.isConnected;
    this.shuffler = new FrameShuffler(net.random, (what) => net.felt(what));
    net.sockets.add(this);
  }

  get remoteAddress(): string {
    return this.remoteHost;
  }

  get writableLength(): number {
    return this.waitingBytes;
  }

  on(event: string, listener: (argument: never) => void): this {
    this.listeners.set(event, listener);
    return this;
  }

  setNoDelay(): void {}

  cork(): void {
    this.corked += 1;
  }

  uncork(): void {
    this.corked -= 1;
    this.pump();
  }

  write(bytes: Uint8Array): boolean {
    if (this.isClosed || this.isEnding || this.owner.isDead) return false;
    if (bytes.length > 0) this.waiting.push(bytes);
    this.waitingBytes += bytes.length;
    if (this.waitingBytes > 16 * 1024) this.mustDrain = true;
    if (this.corked === 0) this.pump();
    return !this.mustDrain;
  }

  end(): void {
    this.isEnding = true;
    this.pump();
  }

  destroy(): void {
    if (this.isClosed) return;
    this.effect("close", "before");
    if (this.isClosed) return;
    this.close();
    if (this.owner.isDead) return;
    this.tellEnd(this.waitingBytes > 0 || this.flightBytes > 0 ? "reset" : "end");
    this.later("close", () => this.emit("close"));
  }

  setTimeout(ms: number, callback: () => void): void {
    this.net.world.after(ms * 1_000, this.owner, "socket timeout", () => {
      if (!this.isClosed) callback();
    });
  }

  connected(): void {
    this.isConnected = true;
    this.pump();
  }

  /** The kernel has bad news. */
  fail(code: string): void {
    if (this.isClosed) return;
    this.close();
    this.later("socket error", () => {
      this.emit("error", new Error(code));
      this.emit("close");
    });
  }

  /** Its process is gone. */
  abandoned(isTold: boolean): void {
    if (this.isClosed) return;
    this.close();
    if (isTold) this.tellEnd("reset");
  }

  private close(): void {
    this.isClosed = true;
    this.waiting = [];
    this.waitingFrom = 0;
    this.waitingBytes = 0;
    this.net.sockets.delete(this);
  }

  private tellEnd(kind: "end" | "reset"): void {
    const { other } = this;
    if (other === null || this.hasEnded) return;
    this.hasEnded = true;
    this.send(other, { kind, bytes: Buffer.alloc(0) });
  }

  private pump(): void {
    if (!this.isConnected || this.isClosed || this.corked > 0 || this.other === null) return;
    while (this.waitingBytes > 0 && this.flightBytes < KERNEL_BYTES) {
      this.effect("send", "before");
      if (this.owner.isDead) return;
      const bytes = this.takePiece();
      this.flightBytes += bytes.length;
      this.net.world.trace.note(this.net.world.nowUs, this.owner.name, "sent", crc32(bytes), bytes.length);
      this.send(this.other, { kind: "data", bytes });
      this.effect("send", "after");
    }
    if (this.isEnding && this.waitingBytes === 0 && !this.hasEnded) this.tellEnd("end");
  }

  /** A copy: memory is not shared between machines. */
  private takePiece(): Buffer {
    let size = Math.min(this.waitingBytes, PIECE_BYTES);
    if (size > 1 && chance(this.net.random, this.net.knobs.splitPercent)) size = between(this.net.random, 1, size);
    const piece = Buffer.allocUnsafe(size);
    let filled = 0;
    let taken = 0;
    while (filled < size) {
      const part = this.waiting[taken]!;
      const end = Math.min(part.length, this.waitingFrom + size - filled);
      copyInto(piece, filled, this.waitingFrom === 0 && end === part.length ? part : part.subarray(this.waitingFrom, end));
      filled += end - this.waitingFrom;
      this.waitingFrom = end === part.length ? 0 : end;
      if (end === part.length) taken += 1;
    }
    if (taken > 0) this.waiting.splice(0, taken);
    this.waitingBytes -= size;
    return piece;
  }

  private send(other: SimSocket, piece: Piece): void {
    const number = this.nextPiece++;
    const notBeforeUs = Math.max(this.lastArrivalUs, this.stalledUntilUs);
    if (this.stalledUntilUs > this.net.world.nowUs) this.net.felt("stream stalled");
    this.lastArrivalUs = this.net.travel(this.host, this.remoteHost, piece.bytes.length, notBeforeUs, () => {
      if (this.isHalfOpen) {
        this.net.felt("stream half-open");
        return;
      }
      if (number === this.nextArrival && this.early.size === 0) {
        this.nextArrival += 1;
        this.arrived(other, piece, true);
        return;
      }
      this.early.set(number, piece);
      for (let next = this.early.get(this.nextArrival); next !== undefined; next = this.early.get(this.nextArrival)) {
        this.early.delete(this.nextArrival++);
        this.arrived(other, next, false);
      }
    });
  }

  /** `isAlone`: nothing else arrives in this event, so the process may be told at once, if nothing that came before waits for it. */
  private arrived(other: SimSocket, piece: Piece, isAlone: boolean): void {
    const { world } = this.net;
    const { kind, bytes } = piece;
    if (this.net.isDown(other.host)) return;
    if (kind === "data") this.acknowledged(bytes.length, other);
    if (other.isClosed || other.owner.isDead) return;
    if (kind === "reset") {
      other.fail("ECONNRESET");
      return;
    }
    if (isAlone && kind === "data" && other.untold.length === 0 && other.owner.pausedUntilUs <= world.nowUs) {
      world.handOver(other.owner, kind, () => this.tell(other, piece));
      return;
    }
    other.untold.push(piece);
    other.later(kind, () => this.tell(other, other.untold.shift()!));
  }

  private tell(other: SimSocket, { kind, bytes }: Piece): void {
    if (other.isClosed) return;
    if (kind === "data") {
      const passed = this.net.mayShuffle ? this.shuffler.pass(bytes, this.net.shuffle) : bytes;
      if (passed.length > 0) other.emit("data", passed);
      return;
    }
    other.emit("end");
    other.destroy();
  }

  /** The other kernel has it, or says that nobody is there any more. */
  private acknowledged(bytes: number, other: SimSocket): void {
    if (other.isClosed) {
      this.fail("ECONNRESET");
      return;
    }
    this.flightBytes -= bytes;
    if (this.isClosed) return;
    this.pump();
    if (!this.mustDrain || this.waitingBytes > 0) return;
    this.mustDrain = false;
    this.later("drain", () => {
      if (!this.isClosed) this.emit("drain");
    });
  }

  private later(kind: string, callback: () => void): void {
    this.net.world.after(1, this.owner, kind, callback);
  }

  private emit(event: string, argument?: unknown): void {
    if (!this.owner.isDead) this.listeners.get(event)?.(argument as never);
  }
}
