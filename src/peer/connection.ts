// One TCP connection as a stream of frames: u32 length (little-endian, of what follows), u8 type, body. Frames of a more
// urgent type overtake waiting ones; little is handed to the socket at a time, so that they really do.

import { copyInto } from "../base/copy.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import { PEER_FRAME_BYTES_MAX, PEER_SEND_BYTES_MAX } from "../base/limits.ts";
import type { PeerSocket } from "./network.ts";

const HEADER_BYTES = 5;
/** Bytes that the socket may hold; the rest waits here, where it can be overtaken. */
const SOCKET_BYTES_MAX = 256 * 1024;
/** Lanes 0, 1 and 2, then the connection's own types. */
export const TYPE_PING = 16;
export const TYPE_HELLO = 17;
export const TYPE_REFUSAL = 18;
const PRIORITIES = 2;

export type ConnectionHandler = {
  /** `body` belongs to the callee. */
  frame(type: number, body: Uint8Array): void;
  /** Once; nothing else is called afterwards. */
  closed(reason: string): void;
  /** What was refused for lack of room can be sent again. */
  drained(): void;
};

export class Connection {
  readonly socket: PeerSocket;
  private readonly handler: ConnectionHandler;
  private readonly memory: PayloadMemory;
  private readonly queues: Uint8Array[][] = [[], []];
  private waitingBytes = 0;
  private flushScheduled = false;
  private wasFull = false;
  private isClosed = false;
  /** Partly arrived frame: its header, then its body. */
  private readonly header = Buffer.alloc(HEADER_BYTES);
  private headerFilled = 0;
  private body: Uint8Array | null = null;
  private bodyFilled = 0;
  /** Frame length accepted before the hello: a stranger gets no large buffer. */
  private frameBytesMax = 4096;
  /** Counts everything that arrives, to tell silence. */
  receivedBytes = 0;
  sentFrames = 0;

  /** Frames that come in pieces are put together in `memory`. */
  constructor(socket: PeerSocket, memory: PayloadMemory, handler: ConnectionHandler) {
    this.socket = socket;
    this.memory = memory;
    this.handler = handler;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("drain", () => this.flush());
    socket.on("error", (error) => this.close(error.message));
    socket.on("close", () => this.close("the connection was closed"));
    socket.on("end", () => this.close("the peer closed the connection"));
  }

  /** The hello is through: frames of full size may come. */
  established(): void {
    this.frameBytesMax = PEER_FRAME_BYTES_MAX;
  }

  /** False when too much waits already, or the connection is gone: the frame was not taken. */
  send(type: number, parts: readonly Uint8Array[]): boolean {
    if (this.isClosed) return false;
    let length = 0;
    for (const part of parts) length += part.length;
    if (this.waitingBytes + this.socket.writableLength + length > PEER_SEND_BYTES_MAX) {
      this.wasFull = true;
      return false;
    }
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    header.writeUInt32LE(length + 1, 0);
    header[4] = type;
    const queue = this.queues[type === 1 || type === 2 ? 1 : 0]!;
    queue.push(header);
    for (const part of parts) if (part.length > 0) queue.push(part);
    // The end of a frame: only there another queue may come in between.
    queue.push(END);
    this.waitingBytes += HEADER_BYTES + length;
    this.sentFrames += 1;
    this.scheduleFlush();
    return true;
  }

  close(reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.socket.destroy();
    this.handler.closed(reason);
  }

  /** Sends what waits, then closes. */
  end(reason: string): void {
    this.flush();
    this.socket.end();
    this.close_(reason);
  }

  private close_(reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.socket.setTimeout(1_000, () => this.socket.destroy());
    this.handler.closed(reason);
  }

  private scheduleFlush(): void {
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    queueMicrotask(() => {
      this.flushScheduled = false;
      this.flush();
    });
  }

  private flush(): void {
    if (this.isClosed || this.waitingBytes === 0) return;
    this.socket.cork();
    for (let priority = 0; priority < PRIORITIES; priority++) {
      const queue = this.queues[priority]!;
      let at = 0;
      while (at < queue.length && this.socket.writableLength < SOCKET_BYTES_MAX) at = this.writeFrame(queue, at);
      if (at > 0) queue.splice(0, at);
    }
    this.socket.uncork();
    if (this.wasFull && this.waitingBytes < PEER_SEND_BYTES_MAX / 2) {
      this.wasFull = false;
      this.handler.drained();
    }
  }

  /** Writes one whole frame; returns where the next begins. */
  private writeFrame(queue: readonly Uint8Array[], from: number): number {
    let at = from;
    while (queue[at] !== END) {
      const part = queue[at]!;
      this.socket.write(part);
      this.waitingBytes -= part.length;
      at += 1;
    }
    return at + 1;
  }

  private receive(chunk: Buffer): void {
    this.receivedBytes += chunk.length;
    let at = 0;
    while (at < chunk.length && !this.isClosed) {
      if (this.body === null) {
        const take = Math.min(HEADER_BYTES - this.headerFilled, chunk.length - at);
        chunk.copy(this.header, this.headerFilled, at, at + take);
        this.headerFilled += take;
        at += take;
        if (this.headerFilled < HEADER_BYTES) return;
        const length = this.header.readUInt32LE(0) - 1;
        if (length < 0 || length > this.frameBytesMax) {
          this.close(`a frame of ${length} bytes is not allowed`);
          return;
        }
        this.headerFilled = 0;
        if (length <= chunk.length - at) {
          this.handler.frame(this.header[4]!, chunk.subarray(at, at + length));
          at += length;
          continue;
        }
        this.body = this.memory.take(length);
        this.bodyFilled = 0;
      }
      const take = Math.min(this.body.length - this.bodyFilled, chunk.length - at);
      copyInto(this.body, this.bodyFilled, chunk.subarray(at, at + take));
      this.bodyFilled += take;
      at += take;
      if (this.bodyFilled < this.body.length) return;
      const body = this.body;
      this.body = null;
      this.handler.frame(this.header[4]!, body);
    }
  }
}

const END = new Uint8Array(0);
