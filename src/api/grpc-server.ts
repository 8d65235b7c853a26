// The API port. Connections are taken by a server of our own, which counts them and closes those that say nothing; gRPC
// gets them from there.

import { createServer, type Server as NetServer, type Socket } from "node:net";
import { once, setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { Http2Server } from "node:http2";
import { Server, ServerCredentials, type ConnectionInjector } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";
import { COMMIT_BYTES_MAX, DEFINITIONS_BYTES_MAX, GRPC_MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { Pacer } from "../base/pacer.ts";
import type { Worked } from "../base/work.ts";
import type { Broker } from "../broker/types.ts";
import { adminService } from "./admin-service.ts";
import { clusterService } from "./cluster-service.ts";
import { loadProtos, serviceOf } from "./definitions.ts";
import { messagingService } from "./messaging-service.ts";
import { bounded } from "./plain-services.ts";
import { decodeFetch, decodePublish, decodePublishFrame, encodeAcks, encodeFetched, encodePublished } from "./raw-codec.ts";
import { decodeConsumeFrame, decodeSettle, encodeBrowsed, encodeConsumeAnswer, encodeReceived, encodeSettled } from "./work-codec.ts";
import { recordCodec } from "./record-codec.ts";
import { Traffic } from "./traffic.ts";
import { decodeTransact } from "./transaction-codec.ts";

export type ApiSettings = {
  readonly host: string;
  readonly port: number;
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer; readonly ca: Buffer } | undefined;
};
export type ApiComponents = {
  readonly broker: Broker;
  readonly logger: Logger;
  /** Shared by all work that clients ask for. */
  readonly pacer: Pacer;
  readonly worked: Worked;
};

const CONNECTIONS_MAX = 4_096;
const STREAMS_PER_CONNECTION_MAX = 100;
/** Megabytes of one HTTP/2 session: requests under way and unsent answers. */
const SESSION_MEMORY_MB = 128;
const FLOW_WINDOW_BYTES = 4 * 1024 * 1024;
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
const CONNECTION_IDLE_MS = 300_000;
/** A connection must have sent its HTTP/2 preface and settings by then. */
const HANDSHAKE_MS = 10_000;
const PREFACE_BYTES = 24 + 9;
const DEADLINE_MS = 30_000;
const STOP_GRACE_MS = 2_000;
/** So long nothing is published here once the clients know who leads instead; and how long they are waited for at most. */
const QUIET_MS = 50;
const LEAVE_MS_MAX = 500;
const HEALTH_MS = 250;
const SERVICES = ["", "flotilla.v1.Messaging", "flotilla.v1.Cluster", "flotilla.v1.Admin"];

export class GrpcApi {
  private readonly settings: ApiSettings;
  private readonly broker: Broker;
  private readonly server: Server;
  private readonly listener: NetServer;
  private readonly injector: ConnectionInjector;
  private readonly health: HealthImplementation;
  private readonly sockets = new Set<Socket>();
  private readonly stopping = new AbortController();
  private readonly traffic = new Traffic();
  private readonly logger: Logger;
  private healthTimer: NodeJS.Timeout | null = null;

  constructor(settings: ApiSettings, { broker, logger, pacer, worked }: ApiComponents) {
    this.settings = settings;
    this.broker = broker;
    this.server = new Server({
      "grpc.max_receive_message_length": GRPC_MESSAGE_BYTES_MAX,
      "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.max_connection_idle_ms": CONNECTION_IDLE_MS,
      "grpc-node.max_session_memory": SESSION_MEMORY_MB,
    });
    const protos = loadProtos();
    // One for each stream.
    setMaxListeners(0, this.stopping.signal);
    this.logger = logger;
    const unary = { defaultDeadlineMs: DEADLINE_MS, logger, pacer, worked, stopping: this.stopping.signal };
    const messaging = {
      Publish: { decode: decodePublish, encode: encodePublished },
      PublishStream: { decode: decodePublishFrame, encode: encodeAcks },
      Fetch: { decode: decodeFetch, encode: encodeFetched, bytesMax: REQUEST_BYTES_MAX },
      CommitOffsets: { bytesMax: COMMIT_BYTES_MAX },
      Receive: { encode: encodeReceived },
      Consume: { decode: decodeConsumeFrame, encode: encodeConsumeAnswer, bytesMax: COMMIT_BYTES_MAX },
      Settle: { decode: decodeSettle, encode: encodeSettled, bytesMax: COMMIT_BYTES_MAX },
      Browse: { encode: encodeBrowsed },
      Transact: { decode: decodeTransact },
    };
    const admin = { ImportDefinitions: { bytesMax: DEFINITIONS_BYTES_MAX }, SetSchedule: { bytesMax: COMMIT_BYTES_MAX } };
    this.server.addService(serviceOf(protos, "flotilla.v1.Messaging", messaging, worked), messagingService(broker, unary, this.traffic));
    this.server.addService(serviceOf(protos, "flotilla.v1.Cluster", {}, worked), clusterService(broker, unary));
    this.server.addService(serviceOf(protos, "flotilla.v1.Admin", admin, worked), adminService(broker, unary, recordCodec(protos)));
    this.health = new HealthImplementation(Object.fromEntries(SERVICES.map((name) => [name, "NOT_SERVING" as const])));
    this.health.addToServer(bounded(this.server));
    new ReflectionService(protos).addToServer(bounded(this.server));
    const { tls } = settings;
    const credentials =
      tls === undefined
        ? ServerCredentials.createInsecure()
        : ServerCredentials.createSsl(null, [{ private_key: tls.key, cert_chain: tls.cert }], false);
    this.injector = this.server.createConnectionInjector(credentials);
    widenWindows(this.server);
    this.listener = createServer({ noDelay: true }, (socket) => this.accept(socket));
    this.listener.maxConnections = CONNECTIONS_MAX;
  }

  async start(): Promise<void> {
    this.listener.listen(this.settings.port, this.settings.host);
    await once(this.listener, "listening");
    let told: boolean | null = null;
    const report = (): void => {
      const { ready } = this.broker;
      // Each watcher gets a message with every report.
      if (ready === told) return;
      told = ready;
      for (const name of SERVICES) this.health.setStatus(name, ready ? "SERVING" : "NOT_SERVING");
    };
    report();
    this.healthTimer = setInterval(report, HEALTH_MS);
    this.healthTimer.unref();
  }

  get port(): number {
    return (this.listener.address() as { port: number }).port;
  }

  /** Lets clients go to where the leaders went, ends streams, lets calls under way finish for a moment, then closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.healthTimer !== null) clearInterval(this.healthTimer);
    this.listener.close();
    await this.left();
    this.stopping.abort();
    const finished = new Promise<boolean>((resolve) => this.server.tryShutdown(() => resolve(true)));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), STOP_GRACE_MS);
    });
    if (!(await Promise.race([finished, late])))
      this.logger.warn({ afterMs: STOP_GRACE_MS }, "calls of clients are ended without an answer: the node closes");
    clearTimeout(timer);
    this.server.forceShutdown();
    for (const socket of this.sockets) socket.destroy();
  }

  /**
   * A stream that ends costs its client a new one, perhaps a new connection, and batches wait meanwhile. So those who publish are
   * told first who leads now, go there by themselves, and are missed by nobody when the streams end. What still comes is passed on.
   */
  private async left(): Promise<void> {
    for (let waitedMs = 0, seen = -1; this.traffic.streams > 0 && waitedMs < LEAVE_MS_MAX; waitedMs += QUIET_MS) {
      if (seen === this.traffic.batches) return;
      seen = this.traffic.batches;
      await delay(QUIET_MS);
    }
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    const timer = setTimeout(() => {
      if (socket.bytesRead < PREFACE_BYTES) socket.destroy();
    }, HANDSHAKE_MS);
    timer.unref();
    socket.on("close", () => {
      clearTimeout(timer);
      this.sockets.delete(socket);
    });
    socket.on("error", () => socket.destroy());
    this.injector.injectConnection(socket);
  }
}

/**
 * Lets a client send more than 64 KiB, HTTP/2's default, before it has to wait for us: of a fast publisher that is all that
 * would ever be under way. grpc-js has an option for its client only, so this reaches for the HTTP/2 servers inside.
 */
function widenWindows(server: Server): void {
  const { http2Servers } = server as unknown as { http2Servers: ReadonlyMap<Http2Server, unknown> };
  for (const inner of http2Servers.keys()) {
    inner.on("session", (session) => {
      session.settings({ initialWindowSize: FLOW_WINDOW_BYTES });
      session.setLocalWindowSize(2 * FLOW_WINDOW_BYTES);
    });
  }
}
