import { monitorEventLoopDelay } from "node:perf_hooks";
import type { NodeBroker } from "../broker/broker.ts";
import type { SharedLog } from "../log/types.ts";
import type { ReplicaHost } from "../replica/host.ts";

const eventLoopDelay = monitorEventLoopDelay({ resolution: 10 });
eventLoopDelay.enable();

/** Prometheus text of this node. Counters never fall while the process lives. */
export function renderMetrics(host: ReplicaHost, broker: NodeBroker, logs: readonly [catalog: SharedLog, data: SharedLog]): string {
  let leading = 0;
  let groups = 0;
  let resting = 0;
  let unapplied = 0;
  let behind = 0;
  for (const replica of host.groups()) {
    groups += 1;
    if (replica.isLeader) leading += 1;
    if (!replica.awake) resting += 1;
    if (replica.leaderNode === 0 || replica.applied < replica.raft.commitIndex) unapplied += 1;
    if (replica.isLeader) behind += replica.raft.followersBehind;
  }
  const { leaderlessGroups } = broker.describeCluster();
  const lines: string[] = [];
  const metric = (
    name: string,
    type: "gauge" | "counter",
    help: string,
    samples: readonly (readonly [labels: string, value: number])[],
  ): void => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of samples) lines.push(`${name}${labels} ${value}`);
  };
  metric("flotilla_groups", "gauge", "Replicas on this node.", [["", groups]]);
  metric("flotilla_groups_leading", "gauge", "Groups that this node leads.", [["", leading]]);
  metric("flotilla_groups_resting", "gauge", "Replicas at rest: they do not tick.", [["", resting]]);
  metric("flotilla_groups_unapplied", "gauge", "Replicas without a leader, or with committed entries still to apply.", [["", unapplied]]);
  metric("flotilla_followers_behind", "gauge", "Followers of the groups led here that lack entries.", [["", behind]]);
  metric("flotilla_groups_leaderless", "gauge", "Groups of the cluster without a leader, as this node sees it.", [["", leaderlessGroups]]);
  metric("flotilla_replicas_damaged_total", "counter", "Replicas taken out of service since the start because of damage.", [
    ["", host.quarantine.count],
  ]);
  metric("flotilla_replicas_quarantined", "gauge", "Damaged replicas that wait for a successor.", [["", host.quarantine.size]]);
  const names = ["catalog", "data"] as const;
  const perLog = (pick: (stats: ReturnType<SharedLog["stats"]>) => number): [string, number][] =>
    logs.map((log, at) => [`{log="${names[at]}"}`, pick(log.stats())]);
  metric(
    "flotilla_log_appended_bytes_total",
    "counter",
    "Bytes written to the log since the start.",
    perLog((stats) => stats.bytesAppended),
  );
  metric(
    "flotilla_log_syncs_total",
    "counter",
    "Syncs of the log since the start.",
    perLog((stats) => stats.syncs),
  );
  metric(
    "flotilla_log_disk_bytes",
    "gauge",
    "Bytes of the log's files.",
    perLog((stats) => stats.bytesOnDisk),
  );
  metric(
    "flotilla_log_live_bytes",
    "gauge",
    "Bytes of entries that are still needed.",
    perLog((stats) => stats.bytesLive),
  );
  metric(
    "flotilla_log_files",
    "gauge",
    "Files of the log: in use, and kept ready for use.",
    logs.flatMap((log, at) => {
      const { segments, segmentsFree } = log.stats();
      return [
        [`{log="${names[at]}",state="used"}`, segments],
        [`{log="${names[at]}",state="ready"}`, segmentsFree],
      ] as const;
    }),
  );
  metric(
    "flotilla_log_moved_bytes_total",
    "counter",
    "Payload bytes written again so that a file that was mostly dead could go.",
    perLog((stats) => stats.bytesMoved),
  );
  metric("flotilla_event_loop_delay_seconds", "gauge", "Delay of the event loop since the last scrape, by quantile.", [
    ['{quantile="0.5"}', eventLoopDelay.percentile(50) / 1e9],
    ['{quantile="0.99"}', eventLoopDelay.percentile(99) / 1e9],
    ['{quantile="1"}', eventLoopDelay.max / 1e9],
  ]);
  eventLoopDelay.reset();
  metric("flotilla_ready", "gauge", "1 when calls can be served.", [["", broker.ready ? 1 : 0]]);
  return `${lines.join("\n")}\n`;
}
