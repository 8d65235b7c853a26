import { Command } from "commander";
import { print, session, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";

export function clusterCommand(): Command {
  const cluster = new Command("cluster").description("look at the nodes, move leaders");
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
          state: node.alive ? "up" : "down",
          zone: [node.dc, node.zone].filter((part) => part !== "").join("/"),
        }));
        print(rows, ["id", "state", "endpoint", "peerEndpoint", "leaders", "replicas", "zone", "version"], options);
      }
      if (info.leaderlessGroups > 0 || info.nodes.some(({ alive }) => !alive)) process.exitCode = 1;
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
  return cluster;
}
