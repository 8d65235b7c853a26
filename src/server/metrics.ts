import type { PayloadMemory } from "../base/payload-memory.ts";
import type { Histogram } from "../base/histogram.ts";
import type { NodeBroker } from "../broker/broker.ts";
import type { SharedLog } from "../log/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { LoopWatch } from "./loop-watch.ts";

export type MetricsSources = {
  readonly host: ReplicaHost;
  readonly broker: NodeBroker;
  readonly logs: readonly [catalog: SharedLog, data: SharedLog];
  readonly loop: LoopWatch;
  readonly memory: PayloadMemory;
  /** Times that everything stored was read, since the start of the process. */
  readonly scrubRounds: number;
};

/** Prometheus text of this node. Counters never fall while the process lives. */
export function renderMetrics({ host, broker, logs, loop, memory, scrubRounds }: MetricsSources): string {
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
  const { leaderlessGroups, leadersKnown, peersUp } = broker.counts();
  const lines: string[] = [];
  const metric = (
    name: string,
    type: "gauge" | "counter" | "histogram",
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
  metric("flotilla_groups_held", "gauge", "Groups of which records are here, in service or not; without the catalog.", [
    ["", host.heldCount],
  ]);
  metric("flotilla_leaders_known", "gauge", "Groups of which this node knows, or knew, a leader.", [["", leadersKnown]]);
  metric("flotilla_peers_up", "gauge", "Other nodes with which this one is connected.", [["", peersUp]]);
  const elections = host.electionCounts;
  metric("flotilla_elections_standing", "gauge", "Groups for which this node stands for election.", [["", elections.standing]]);
  metric("flotilla_elections_waiting", "gauge", "Groups without a leader that wait for their turn to stand.", [["", elections.waiting]]);
  metric("flotilla_terms_begun_total", "counter", "Terms that groups entered, as this node saw them since the start: elections.", [
    ["", host.termsBegun],
  ]);
  metric("flotilla_replicas_damaged_total", "counter", "Replicas taken out of service since the start because of damage.", [
    ["", host.quarantine.count],
  ]);
  metric("flotilla_replicas_quarantined", "gauge", "Damaged replicas that wait for a successor.", [["", host.quarantine.size]]);
  metric("flotilla_scrub_rounds_total", "counter", "Times that everything stored here was read and checked, since the start.", [
    ["", scrubRounds],
  ]);
  metric("flotilla_digests_compared_total", "counter", "Answers of followers about what they applied that leaders here looked at.", [
    ["", host.comparisons.compared],
  ]);
  metric("flotilla_digest_mismatches_total", "counter", "Times that replicas of a group led here had not come to the same.", [
    ["", host.comparisons.mismatches],
  ]);
  const lagging = host.recovery.nodes();
  metric(
    "flotilla_recovery_groups",
    "gauge",
    "Groups led here of which a node is sent old entries or a snapshot, or waits for them.",
    lagging.map((node) => [`{node="${node}"}`, host.recovery.groupsOf(node)]),
  );
  metric("flotilla_recovery_bytes", "gauge", "Bytes read for nodes that lag, and not yet confirmed by them.", [
    ["", host.recovery.bytesUnderWay],
  ]);
  metric("flotilla_recovery_sent_bytes_total", "counter", "Bytes of old entries and snapshots sent to nodes that lag since the start.", [
    ["", host.recovery.bytesSent],
  ]);
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
  metric("flotilla_payload_slab_bytes", "gauge", "Shared memory for payloads, in use or waiting to be collected; V8 does not count it.", [
    ["", memory.slabBytesAlive],
  ]);
  const { writes, commits } = host.timings;
  metric(
    "flotilla_log_write_seconds",
    "histogram",
    "From the start of a write of the log until it was durable.",
    writes.flatMap((times, at) => samplesOf(times, `log="${names[at]}"`)),
  );
  metric(
    "flotilla_commit_seconds",
    "histogram",
    "From handing an entry to the log until it was on a majority and applied; of the groups led here, one entry at a time.",
    samplesOf(commits),
  );
  metric(
    "flotilla_event_loop_delay_seconds",
    "histogram",
    "How late the event loop was for a timer of 20 ms.",
    samplesOf(loop.delaySeconds),
  );
  metric(
    "flotilla_event_loop_stalls_total",
    "counter",
    "Delays of the event loop of at least so many seconds.",
    loop.stallCounts().map(([ms, stalls]): [string, number] => [`{at_least="${ms / 1_000}"}`, stalls]),
  );
  metric("flotilla_event_loop_delay_p99_seconds", "gauge", "99th percentile of the delay over the last 5 seconds.", [
    ["", loop.p99Ms / 1_000],
  ]);
  const archived = broker.archiveCounts;
  metric("flotilla_archive_files_total", "counter", "Archive files made here of what retention trims, since the start.", [
    ["", archived.files],
  ]);
  metric("flotilla_archive_bytes_total", "counter", "Bytes of these files.", [["", archived.bytes]]);
  metric("flotilla_archive_waiting", "gauge", "Partitions led here that are not trimmed because nothing can be archived.", [
    ["", archived.waiting],
  ]);
  metric("flotilla_ready", "gauge", "1 when calls can be served.", [["", broker.ready ? 1 : 0]]);
  return `${lines.join("\n")}\n`;
}

function samplesOf(histogram: Histogram, label = ""): [labels: string, value: number][] {
  const bounds = [...histogram.bounds, "+Inf"];
  const counts = histogram.cumulative();
  const labels = label === "" ? "" : `{${label}}`;
  return [
    ...counts.map((count, at): [string, number] => [
      `_bucket{${[label, `le="${bounds[at]}"`].filter((one) => one !== "").join(",")}}`,
      count,
    ]),
    [`_sum${labels}`, histogram.sum],
    [`_count${labels}`, counts[counts.length - 1]!],
  ];
}
