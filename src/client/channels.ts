// Connections to the nodes of a cluster, made when first used: one per address, and more where it has many calls under way. Calls that any
// node can answer go to one that does.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  Client,
  connectivityState,
  credentials,
  status as grpcStatus,
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type MethodDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { Connections } from "./connections.ts";
import { FlotillaError, fromGrpc } from "./errors.ts";

export type ChannelSettings = {
  /** host:port of some nodes; the others are learned from them. */
  readonly endpoints: readonly string[];
  readonly tls?: { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | undefined;
  readonly deadlineMs: number;
  /** Tells the nodes who calls, in the user agent. */
  readonly clientName: string;
};

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const FLOW_WINDOW_BYTES = 4 * 1024 * 1024;
/** How long a node may take to accept a connection before the next one is asked. */
const CONNECT_MS = 3_000;
const identity = (bytes: Buffer): Buffer => bytes;

type Methods = Readonly<Record<string, MethodDefinition<object, object>>>;

export class Channels {
  private readonly settings: ChannelSettings;
  private readonly nodes = new Map<string, Connections>();
  private readonly services: Readonly<Record<string, Methods>>;
  /** Where a call to any node is tried first: the last one that answered. */
  private preferred: string;
  private learned: readonly string[] = [];
  private isClosed = false;

  constructor(settings: ChannelSettings) {
    if (settings.endpoints.length === 0) throw new FlotillaError("INVALID_ARGUMENT", "endpoints must name at least one node as host:port");
    this.settings = settings;
    this.preferred = settings.endpoints[0]!;
    this.services = loadServices();
  }

  /** Addresses that the cluster itself named. */
  learn(endpoints: readonly string[]): void {
    this.learned = endpoints;
  }

  /** This node does not answer: calls that any node can answer go to another one first. */
  avoid(endpoint: string): void {
    if (endpoint === this.preferred) this.preferred = this.endpoints().find((other) => other !== endpoint) ?? endpoint;
  }

  /** A call through the generic codec that any node can answer. */
  async call<Request extends object, Response>(
    service: string,
    method: string,
    request: Request,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Response> {
    const definition = this.services[service]![method]!;
    return this.anyNode((node) => unary(node, definition, request, this.callOptions(), options.signal), true) as Promise<Response>;
  }

  /** A call with encoded messages to one node, or to any. */
  async callRaw(
    service: string,
    method: string,
    request: Buffer,
    options: { endpoint?: string | undefined; deadlineMs?: number; signal?: AbortSignal | undefined; isRepeatable?: boolean } = {},
  ): Promise<Buffer> {
    const definition = raw(this.services[service]![method]!);
    const call = (node: Connections): Promise<object> =>
      unary(node, definition, request, this.callOptions(options.deadlineMs), options.signal);
    return (await (options.endpoint === undefined
      ? this.anyNode(call, options.isRepeatable ?? true)
      : call(this.node(options.endpoint)))) as Buffer;
  }

  /** A call that any node can answer, whose answer is decoded by the caller. */
  async callEncoded(service: string, method: string, request: object, options: { signal?: AbortSignal | undefined } = {}): Promise<Buffer> {
    const definition = this.services[service]![method]!;
    const encoded = { ...definition, responseDeserialize: identity as (bytes: Buffer) => object };
    return (await this.anyNode((node) => unary(node, encoded, request, this.callOptions(), options.signal), true)) as Buffer;
  }

  /** A stream of encoded messages to one node. */
  duplex(endpoint: string, service: string, method: string): ClientDuplexStream<Buffer, Buffer> {
    const { path } = this.services[service]![method]!;
    return this.stream(endpoint, (client) => client.makeBidiStreamRequest<Buffer, Buffer>(path, identity, identity, {}));
  }

  /** A stream of messages from one node. */
  readable(endpoint: string, service: string, method: string, request: object): ClientReadableStream<object> {
    const { path, requestSerialize, responseDeserialize } = this.services[service]![method]!;
    return this.stream(endpoint, (client) => client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, {}));
  }

  /** A connection stands. If not, one is begun. */
  isConnected(endpoint: string): boolean {
    return this.node(endpoint).first.getChannel().getConnectivityState(true) === connectivityState.READY;
  }

  /** All known addresses, the preferred one first. */
  endpoints(): string[] {
    return [...new Set([this.preferred, ...this.learned, ...this.settings.endpoints])];
  }

  close(): void {
    this.isClosed = true;
    for (const node of this.nodes.values()) node.close();
    this.nodes.clear();
  }

  private stream<Stream extends NodeJS.EventEmitter>(endpoint: string, open: (client: Client) => Stream): Stream {
    const node = this.node(endpoint);
    const connection = node.take();
    const stream = open(connection.client);
    // The last thing that is heard of a stream, however it ended.
    stream.once("status", () => node.release(connection));
    return stream;
  }

  private node(endpoint: string): Connections {
    if (this.isClosed) throw new FlotillaError("CLOSED", "the client is closed");
    let node = this.nodes.get(endpoint);
    if (node === undefined) this.nodes.set(endpoint, (node = new Connections(() => this.connect(endpoint))));
    return node;
  }

  private connect(endpoint: string): Client {
    const { tls } = this.settings;
    const security = tls === undefined ? credentials.createInsecure() : credentials.createSsl(tls.ca, tls.key ?? null, tls.cert ?? null);
    return new Client(endpoint, security, {
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
      "grpc-node.flow_control_window": FLOW_WINDOW_BYTES,
      "grpc.primary_user_agent": this.settings.clientName,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      "grpc.initial_reconnect_backoff_ms": 50,
      // A new client dials at once, whatever another one in this process last saw of the node.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.max_reconnect_backoff_ms": 1_000,
    });
  }

  private callOptions(deadlineMs: number = this.settings.deadlineMs): CallOptions {
    return { deadline: Date.now() + deadlineMs };
  }

  /** Goes from node to node until one answers. What may have been done already is not asked for again unless `isRepeatable`. */
  private async anyNode(call: (node: Connections) => Promise<object>, isRepeatable: boolean): Promise<object> {
    let failure: FlotillaError | null = null;
    for (const endpoint of this.endpoints()) {
      const node = this.node(endpoint);
      if (!(await isReady(node.first.getChannel(), CONNECT_MS))) {
        failure ??= new FlotillaError(
          "UNREACHABLE",
          `no node answers at ${this.endpoints().join(", ")}; is one up, and the address right?`,
        );
        continue;
      }
      try {
        const answer = await call(node);
        this.preferred = endpoint;
        return answer;
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        // It may be stopped, with its connection as it was: the next call begins elsewhere.
        if (error.code === "TIMEOUT") this.avoid(endpoint);
        const isElsewhere = error.code === "STOPPING" || (error.code === "UNREACHABLE" && (isRepeatable || !error.maybeApplied));
        if (!isElsewhere) throw error;
        failure = error;
      }
    }
    throw failure!;
  }
}

/** Resolves with whether a connection stands; false at once where the last try failed, and after `timeoutMs`. */
function isReady(channel: ReturnType<Client["getChannel"]>, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  return new Promise((resolve) => {
    const look = (): void => {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) resolve(true);
      else if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) resolve(false);
      else channel.watchConnectivityState(state, deadline, (error) => (error === undefined ? look() : resolve(false)));
    };
    look();
  });
}

function unary(
  node: Connections,
  definition: MethodDefinition<object, object>,
  request: object,
  options: CallOptions,
  signal: AbortSignal | undefined,
): Promise<object> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(new FlotillaError("ABORTED", "the call was aborted", { retryable: false }));
      return;
    }
    const connection = node.take();
    const call = connection.client.makeUnaryRequest(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      request,
      options,
      (error: ServiceError | null, response) => {
        node.release(connection);
        signal?.removeEventListener("abort", abort);
        if (error === null && response !== undefined) resolve(response);
        else if (signal?.aborted === true)
          reject(new FlotillaError("ABORTED", "the call was aborted", { retryable: false, maybeApplied: true }));
        else reject(fromGrpc(error ?? noAnswer()));
      },
    );
    const abort = (): void => call.cancel();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function noAnswer(): ServiceError {
  return Object.assign(new Error("no answer"), { code: grpcStatus.INTERNAL, details: "no answer", metadata: undefined as never });
}

function raw(definition: MethodDefinition<object, object>): MethodDefinition<object, object> {
  return {
    ...definition,
    requestSerialize: identity as (value: object) => Buffer,
    responseDeserialize: identity as (bytes: Buffer) => object,
  };
}

function loadServices(): Readonly<Record<string, Methods>> {
  const files = ["messaging", "cluster", "admin"].map((name) => `flotilla/v1/${name}.proto`);
  return loadSync(files, { includeDirs: [protoDirectory()], longs: Number, defaults: true, arrays: true, enums: Number }) as never;
}

/** The `proto` folder of the package, from the sources as well as from the build. */
function protoDirectory(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (let level = 0; level < 6; level++) {
    const candidate = join(directory, "proto");
    if (existsSync(join(candidate, "flotilla/v1/messaging.proto"))) return candidate;
    directory = dirname(directory);
  }
  throw new Error("the folder proto/flotilla/v1 is missing from the installation");
}
