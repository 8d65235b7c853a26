import { setTimeout as delay } from "node:timers/promises";
import { Command, InvalidArgumentError } from "commander";
import type { ClusterInfo, Flotilla, ReplicaMove } from "../client/index.ts";
import { StepProgress } from "./progress.ts";
import { print, session, sizeText, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";

export function clusterCommand(): Command {
  const cluster = new Command("cluster").description("look at the nodes, move leaders and replicas, take nodes out");
  withOutput(cluster.command("status").description("nodes, controller, groups without a leader")).action((options: SessionOptions) =>
    session(options, async (client) => {
      const info = await client.cluster.describe();
      if (options.output === "json") {
        process.stdout.write(`${JSON.stringify(info, null, 2)}\n`);
      } else {
        process.stdout.write(
          `cluster ${info.clusterId}: ${info.nodes.length} nodes, ${info.topics} topics, ${info.groups} groups, ${info.leaderlessGroups} without a leader; controller is node ${info.controllerId || "none"}\n\n`,
        );
        const rows = info.nodes.map((node) => ({
          ...node,
          state: `${node.alive ? "up" : "down"}${node.drained ? ", drained" : ""}`,
          ...diskOf(info, node.id),
          zone: [node.dc, node.zone].filter((part) => part !== "").join("/"),
        }));
        print(rows, ["id", "state", "endpoint", "peerEndpoint", "leaders", "replicas", "log", "live", "free", "zone", "version"], options);
        if (info.damages.length > 0) {
          process.stdout.write("\ndamaged replicas that wait for their successors:\n");
          print(info.damages, ["node", "vhost", "topic", "partition", "group", "reason"], options);
        }
      }
      if (info.leaderlessGroups > 0 || info.damages.length > 0 || info.nodes.some(({ alive }) => !alive)) process.exitCode = 1;
    }),
  );
  withOutput(cluster.command("topology <topic>").description("leaders and replicas of a topic")).action(
    (topic: string, options: SessionOptions) =>
      session(options, async (client) => {
        const { partitions } = await client.cluster.resolve(topic, options.vhost);
        print(
          partitions.map(({ partition, group, leader, term, replicas }) => ({
            partition,
            group,
            leader: leader || "none",
            term,
            replicas: replicas.join(","),
          })),
          ["partition", "group", "leader", "term", "replicas"],
          options,
        );
      }),
  );
  withConnection(cluster.command("transfer [topic]").description("move the leadership of a partition, or without a topic of the catalog"))
    .option("--partition <n>", "which partition", whole(0, 999), 0)
    .option("--to <node>", "the new leader; default: the best of the other replicas", whole(1, 1_023), 0)
    .addHelpText("after", "\nExamples:\n  flotilla cluster transfer logs --partition 3 --to 2\n  flotilla cluster transfer --to 1")
    .action((topic: string | undefined, options: SessionOptions & { partition: number; to: number }) =>
      session(options, async (client) => {
        const leader = await client.cluster.transferLeader({
          topic: topic ?? "",
          partition: options.partition,
          toNode: options.to,
          vhost: options.vhost,
        });
        process.stdout.write(`node ${leader} leads\n`);
      }),
    );
  addMoves(cluster);
  addNodes(cluster);
  return cluster;
}

/** What the files of the node's logs take, how much of that is needed, and what is free on its disk. */
function diskOf({ disks }: ClusterInfo, id: number): { log: string; live: string; free: string } {
  const disk = disks.find(({ node }) => node === id);
  if (disk === undefined) return { log: "?", live: "?", free: "?" };
  return { log: sizeText(disk.logBytes), live: sizeText(disk.liveBytes), free: sizeText(disk.freeBytes) };
}

function addMoves(cluster: Command): void {
  withOutput(cluster.command("move <topic>").description("move a partition's replicas to other nodes"))
    .option("--partition <n>", "which partition", whole(0, 999), 0)
    .option("--nodes <list>", "where its replicas are to be, comma-separated, the leader's first", nodeList)
    .option("--from <node>", "instead of --nodes: the node that is to give its replica up", whole(1, 1_023))
    .option("--to <node>", "with --from: the node that is to take it", whole(1, 1_023))
    .option("--no-wait", "only give the order")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla cluster move logs --partition 3 --nodes 1,2,4\n  flotilla cluster move logs --partition 3 --from 3 --to 4",
    )
    .action((topic: string, options: MoveOptions) =>
      session(options, async (client) => {
        const { partition, vhost } = options;
        const nodes = options.nodes ?? (await exchanged(client, topic, options));
        await client.cluster.moveReplicas({ topic, partition, nodes, vhost });
        if (options.wait) await arrived(client, (move) => move.topic === topic && move.partition === partition && move.vhost === vhost);
        process.stdout.write(`${topic}/${partition} ${options.wait ? "is" : "is to be"} on nodes ${nodes.join(",")}\n`);
      }),
    );
  withOutput(cluster.command("moves").description("replicas on their way to where they are to be")).action((options: SessionOptions) =>
    session(options, async (client) => {
      const rows = (await client.cluster.listMoves()).map((move) => ({
        ...move,
        from: move.fromNodes.join(",") || "no leader",
        to: move.toNodes.join(","),
        done: `${move.entriesTotal === 0 ? 0 : Math.floor((100 * move.entriesDone) / move.entriesTotal)} %`,
      }));
      print(rows, ["vhost", "topic", "partition", "from", "to", "done"], options);
    }),
  );
}

function addNodes(cluster: Command): void {
  withConnection(cluster.command("drain <node>").description("keep leaders and new replicas off a node, for maintenance or for good"))
    .option("--replicas", "also move its replicas to other nodes, as before forgetting it")
    .option("--no-wait", "only give the order")
    .addHelpText("after", "\nExamples:\n  flotilla cluster drain 3\n  flotilla cluster drain 3 --replicas && flotilla cluster forget 3")
    .action((text: string, options: SessionOptions & { replicas?: true; wait: boolean }) =>
      session(options, async (client) => {
        const node = whole(1, 1_023)(text);
        const moves = await client.cluster.drainNode(node, { moveReplicas: options.replicas === true });
        if (options.wait) {
          await arrived(client, (move) => moves > 0 && move.fromNodes.includes(node));
          await until(async () => (await client.cluster.describe()).nodes.every(({ id, leaders }) => id !== node || leaders === 0));
        }
        process.stdout.write(`node ${node} is drained${moves > 0 ? `, ${moves} replicas ${options.wait ? "" : "are to be "}moved` : ""}\n`);
      }),
    );
  withConnection(cluster.command("undrain <node>").description("let a drained node have leaders and replicas again")).action(
    (text: string, options: SessionOptions) =>
      session(options, async (client) => {
        const node = whole(1, 1_023)(text);
        await client.cluster.drainNode(node, { drained: false });
        process.stdout.write(`node ${node} is in use\n`);
      }),
  );
  withConnection(cluster.command("forget <node>").description("take a stopped node without replicas out of the cluster"))
    .addHelpText("after", "\nIt can come back with an empty data directory only.")
    .action((text: string, options: SessionOptions) =>
      session(options, async (client) => {
        const node = whole(1, 1_023)(text);
        await client.cluster.forgetNode(node);
        process.stdout.write(`node ${node} is forgotten\n`);
      }),
    );
}

type MoveOptions = SessionOptions & {
  readonly partition: number;
  readonly nodes?: readonly number[];
  readonly from?: number;
  readonly to?: number;
  readonly wait: boolean;
};

const POLL_MS = 200;

function nodeList(text: string): number[] {
  return text.split(",").map((part) => whole(1, 1_023)(part.trim()));
}

/** The nodes of the partition, with one in place of another. */
async function exchanged(client: Flotilla, topic: string, { partition, vhost, from, to }: MoveOptions): Promise<number[]> {
  if (from === undefined || to === undefined) throw new InvalidArgumentError("name the nodes with --nodes, or with --from and --to");
  const { partitions } = await client.cluster.resolve(topic, vhost);
  const replicas = partitions[partition]?.replicas ?? [];
  if (!replicas.includes(from)) throw new InvalidArgumentError(`node ${from} has no replica of ${topic}/${partition} (--from)`);
  return replicas.map((node) => (node === from ? to : node));
}

/** Waits until no such move is left; shows how far it is on a terminal. */
async function arrived(client: Flotilla, isOurs: (move: ReplicaMove) => boolean): Promise<void> {
  const progress = new StepProgress("moving");
  let total = 0;
  await until(async () => {
    const moves = (await client.cluster.listMoves()).filter(isOurs);
    const left = moves.reduce((sum, { entriesDone, entriesTotal }) => sum + entriesTotal - entriesDone, 0);
    total = Math.max(
      total,
      moves.reduce((sum, { entriesTotal }) => sum + entriesTotal, 0),
    );
    progress.update(total - left, total);
    return moves.length === 0;
  });
  progress.end();
}

async function until(isDone: () => Promise<boolean>): Promise<void> {
  while (!(await isDone())) await delay(POLL_MS);
}
