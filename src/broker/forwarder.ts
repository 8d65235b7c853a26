// Requests that another node must answer: frames with a request id over the peer links. A lost link ends every request
// that was under way on it, so a caller always gets an outcome.

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { FORWARDED_REQUESTS_MAX } from "../base/limits.ts";
import { decodeError, encodeError } from "./forward-codec.ts";
import { callController } from "./wait-until.ts";

const REQUEST = 1;
const ANSWER = 2;
const FAILURE = 3;
const CANCEL = 4;
/** One way: no answer. */
const NOTICE = 5;
const FORMAT = 1;

/** What `parts` of a frame become on the other side: one contiguous body, valid for as long as it is kept. */
export type Answer = (error: BrokerError | null, body: Uint8Array) => void;
/** Serves one request. `parts` of the answer are sent as they are and must not change afterwards. */
export type Serve = (
  from: NodeId,
  body: Uint8Array,
  reply: (error: BrokerError | null, parts: readonly Uint8Array[]) => void,
  signal: AbortSignal,
) => void;

export type ForwarderComponents = {
  /** False: the frame was not taken. */
  readonly send: (to: NodeId, parts: readonly Uint8Array[]) => boolean;
  readonly operations: ReadonlyMap<number, Serve>;
  readonly notices: ReadonlyMap<number, (from: NodeId, body: Uint8Array) => void>;
};

type Waiting = { readonly done: Answer };
const NOTHING = new Uint8Array(0);

export class Forwarder {
  private readonly components: ForwarderComponents;
  private readonly waiting = new Map<NodeId, Map<number, Waiting>>();
  private readonly serving = new Map<NodeId, Map<number, AbortController>>();
  private nextId = 1;

  constructor(components: ForwarderComponents) {
    this.components = components;
  }

  /** Sends a request; `done` is called exactly once. Returns the way to give up waiting (`done` is then not called). */
  call(to: NodeId, operation: number, parts: readonly Uint8Array[], done: Answer): () => void {
    let waiting = this.waiting.get(to);
    if (waiting === undefined) this.waiting.set(to, (waiting = new Map()));
    if (waiting.size >= FORWARDED_REQUESTS_MAX) {
      done(new BrokerError("OVERLOADED", `${FORWARDED_REQUESTS_MAX} requests wait for node ${to} already`), NOTHING);
      return () => {};
    }
    const id = this.nextId;
    this.nextId = this.nextId === 0xffff_ffff ? 1 : this.nextId + 1;
    if (!this.components.send(to, [header(REQUEST, id, operation), ...parts])) {
      done(new BrokerError("NO_LEADER", `node ${to} cannot be reached from here at the moment`, { node: String(to) }), NOTHING);
      return () => {};
    }
    waiting.set(id, { done });
    return () => {
      if (waiting.delete(id)) this.components.send(to, [header(CANCEL, id, operation)]);
    };
  }

  notify(to: NodeId, operation: number, body: Uint8Array): void {
    this.components.send(to, [header(NOTICE, 0, operation), body]);
  }

  onFrame(from: NodeId, frame: Uint8Array): void {
    const reader = new ByteReader(frame);
    if (reader.u8() !== FORMAT) throw new DecodeError("forwarded frame of an unknown version");
    const kind = reader.u8();
    const id = reader.u32();
    const operation = reader.u8();
    const body = reader.raw(reader.remaining);
    switch (kind) {
      case REQUEST:
        this.serve(from, id, operation, body);
        return;
      case ANSWER:
        this.take(from, id)?.done(null, body);
        return;
      case FAILURE:
        this.take(from, id)?.done(decodeError(body), NOTHING);
        return;
      case CANCEL:
        this.serving.get(from)?.get(id)?.abort();
        return;
      case NOTICE:
        this.components.notices.get(operation)?.(from, body);
        return;
      default:
        throw new DecodeError("forwarded frame of an unknown kind");
    }
  }

  /** The node is gone: what it was asked has no known outcome, and what it asked need not be answered. */
  peerDown(peer: NodeId): void {
    const waiting = this.waiting.get(peer);
    this.waiting.delete(peer);
    for (const { done } of waiting?.values() ?? []) {
      done(new BrokerError("NODE_UNREACHABLE", `node ${peer} was lost before it answered`, { node: String(peer) }), NOTHING);
    }
    const serving = this.serving.get(peer);
    this.serving.delete(peer);
    for (const controller of serving?.values() ?? []) controller.abort();
  }

  private take(from: NodeId, id: number): Waiting | undefined {
    const waiting = this.waiting.get(from);
    const entry = waiting?.get(id);
    waiting?.delete(id);
    return entry;
  }

  private serve(from: NodeId, id: number, operation: number, body: Uint8Array): void {
    const serve = this.components.operations.get(operation);
    if (serve === undefined) {
      const error = new BrokerError("INTERNAL", `node does not know forwarded operation ${operation}: it runs an older version`);
      this.components.send(from, [header(FAILURE, id, operation), encodeError(error)]);
      return;
    }
    let serving = this.serving.get(from);
    if (serving === undefined) this.serving.set(from, (serving = new Map()));
    const controller = callController();
    serving.set(id, controller);
    serve(
      from,
      body,
      (error, parts) => {
        // The link on which it came is gone: on another one its number is that of another question.
        if (serving.get(id) !== controller || this.serving.get(from) !== serving) return;
        serving.delete(id);
        // An answer that the link does not take is lost with the link; the other side then hears NODE_UNREACHABLE.
        if (error === null) this.components.send(from, [header(ANSWER, id, operation), ...parts]);
        else this.components.send(from, [header(FAILURE, id, operation), encodeError(error)]);
      },
      controller.signal,
    );
  }
}

function header(kind: number, id: number, operation: number): Uint8Array {
  return new ByteWriter(8).u8(FORMAT).u8(kind).u32(id).u8(operation).finish();
}
