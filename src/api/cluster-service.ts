import type { ServerWritableStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import type { Broker } from "../broker/types.ts";
import type { Decoded } from "./definitions.ts";
import { clusterMessage, moveMessage, partitionMessage, topologyMessage } from "./messages.ts";
import { toStatus } from "./status.ts";
import { unary, type UnarySettings } from "./unary.ts";

/**
 * Changes within this time are told as one; and within so many times what telling the last one took, up to a bound: a topic may be
 * wide, and its changes come in crowds when a node dies, which needs its time for the elections.
 */
const COALESCE_MS = 20;
const COALESCE_TIMES = 10;
const COALESCE_MS_MAX = 100;

type TopicRequest = { vhost: string; topic: string };
type MoveRequest = TopicRequest & { partition: number; nodes: number[] };
type DrainRequest = { node: number; drained: boolean; moveReplicas: boolean };
type TransferRequest = { vhost: string; topic: string; partition: number; toNode: number };
type WatchCall = ServerWritableStream<Decoded<TopicRequest>, object>;

/** flotilla.v1.Cluster over the use cases. */
export function clusterService(broker: Broker, settings: UnarySettings): UntypedServiceImplementation {
  return {
    DescribeCluster: unary(settings, () => clusterMessage(broker.describeCluster())),
    Resolve: unary(settings, async ({ vhost, topic }: TopicRequest) => ({
      topology: topologyMessage(await broker.resolve(vhost, topic)),
    })),
    WatchTopology: (call: WatchCall) => watch(broker, call, settings),
    TransferLeader: unary(settings, async (request: TransferRequest, signal) => ({ leader: await broker.transferLeader(request, signal) })),
    MoveReplicas: unary(settings, async (request: MoveRequest, signal) => ({
      partition: partitionMessage(await broker.moveReplicas(request, signal)),
    })),
    ListMoves: unary(settings, async (_request: object, signal) => ({ moves: (await broker.listMoves(signal)).map(moveMessage) })),
    DrainNode: unary(settings, async (request: DrainRequest, signal) => ({ moves: await broker.drainNode(request, signal) })),
    ForgetNode: unary(settings, async ({ node }: { node: number }, signal) => {
      await broker.forgetNode(node, signal);
      return {};
    }),
  };
}

function watch(broker: Broker, call: WatchCall, { pacer, stopping }: UnarySettings): void {
  if (call.request.error !== null) {
    call.emit("error", toStatus(call.request.error));
    return;
  }
  const { vhost, topic } = call.request.value;
  let last = "";
  let timer: NodeJS.Timeout | null = null;
  let costMs = 0;
  let isBlocked = false;
  let isOver = false;
  // One change may be news to thousands of watchers.
  const inTurn = async (): Promise<void> => {
    try {
      const turn = pacer.turn();
      if (turn !== null) await turn;
    } catch {
      // Too many wait: again a little later.
      timer = null;
      soon();
      return;
    }
    await tell();
  };
  const tell = async (): Promise<void> => {
    timer = null;
    if (isBlocked || isOver) return;
    const beganMs = performance.now();
    try {
      const message = { topology: topologyMessage(await broker.resolve(vhost, topic)) };
      if (isBlocked || isOver) return;
      const text = JSON.stringify(message);
      if (text === last) return;
      last = text;
      isBlocked = !call.write(message);
    } catch (error) {
      stop();
      if (!(error instanceof BrokerError)) throw error;
      call.emit("error", toStatus(error));
    } finally {
      costMs = performance.now() - beganMs;
    }
  };
  const soon = (): void => {
    const waitMs = Math.min(COALESCE_MS_MAX, Math.max(COALESCE_MS, COALESCE_TIMES * costMs));
    if (!isOver) timer ??= setTimeout(() => void inTurn(), waitMs);
  };
  const unwatch = broker.watch(soon);
  const stop = (): void => {
    isOver = true;
    stopping.removeEventListener("abort", leave);
    unwatch();
    if (timer !== null) clearTimeout(timer);
  };
  // What is still to be told, another node tells.
  const leave = (): void => {
    stop();
    call.end();
  };
  stopping.addEventListener("abort", leave, { once: true });
  // A slow reader gets the newest state once it reads again, not every state in between.
  call.on("drain", () => {
    isBlocked = false;
    soon();
  });
  call.on("cancelled", stop);
  call.on("error", stop);
  void inTurn();
}
