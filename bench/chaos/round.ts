// One round: a topic of its own, load and readers on it, acts of the schedule while they run, and a judgement at the end. A
// long run is many rounds, so that neither its books nor its data grow with its length.

import { setTimeout as delay } from "node:timers/promises";
import { Flotilla } from "../../src/client/index.ts";
import { CommitLedger } from "./commit-ledger.ts";
import { Content } from "./content.ts";
import { judge } from "./judge.ts";
import { Ledger } from "./ledger.ts";
import { Load } from "./load.ts";
import { type Battlefield, Nemesis, type FaultRecord } from "./nemesis.ts";
import type { QueueCounts } from "./queue-ledger.ts";
import { QueueLoad } from "./queue-load.ts";
import { GroupMember, NodeReader, type ReaderParts } from "./readers.ts";
import type { Schedule } from "./schedule.ts";
import type { Timeline } from "./timeline.ts";
import type { Verdict } from "./verdict.ts";

const KEYS_PER_PARTITION = 16;
const PRODUCERS = 2;
/** Load before the first fault. */
const WARM_UP_MS = 1_000;
const PROGRESS_MS = 5_000;
const DELETE_MS = 60_000;

export type RoundOptions = {
  readonly number: number;
  readonly topic: string;
  readonly seconds: number;
  /** 32 bits that tell this round's records from all others. */
  readonly run: number;
  readonly partitions: number;
  readonly replicas: number;
  readonly rate: number;
  readonly bytesMax: number;
  /** Beside the topic, each with another one for its dead letters; the seed draws how they are. */
  readonly queues: number;
  readonly queueSeed: number;
  /** All that is under way must have its outcome within it once the faults are over. */
  readonly recoverySeconds: number;
};

export type RoundParts = {
  readonly client: Flotilla;
  readonly endpoints: readonly string[];
  readonly schedule: Schedule | null;
  readonly field: (topic: string) => Battlefield;
  readonly timeline: Timeline;
  readonly verdict: Verdict;
  readonly now: () => number;
  readonly progress: (text: string) => void;
  /** Before the judgement: tests falsify the books here, to see that the judge finds it. */
  readonly beforeJudge?:
    | ((round: { readonly ledger: Ledger; readonly topic: string; readonly endpoints: readonly string[] }) => Promise<void>)
    | undefined;
  /** Ends the round early. */
  readonly signal: AbortSignal;
};

export type RoundResult = {
  readonly sent: number;
  readonly acked: number;
  readonly notOffered: number;
  readonly readLive: number;
  readonly readByJudge: number;
  readonly commits: number;
  readonly queues: QueueCounts;
  readonly faults: readonly FaultRecord[];
  /** Nothing more can be learned from this cluster. */
  readonly isLost: boolean;
};

export async function runRound(options: RoundOptions, parts: RoundParts): Promise<RoundResult> {
  const { topic, partitions, replicas, seconds, rate, run, bytesMax, queueSeed: seed, recoverySeconds } = options;
  const { client, endpoints, verdict, timeline, now, progress } = parts;
  await client.admin.createTopic({ name: topic, partitions, replicas });
  const queueParts = { client, endpoints, verdict, now, progress };
  const queues = new QueueLoad(queueParts, { topic, queues: options.queues, replicas, seed, run, bytesMax });
  await queues.create();
  const content = new Content(run, partitions, KEYS_PER_PARTITION, { bytesMin: 24, bytesMax });
  const ledger = new Ledger(partitions, content, verdict);
  const commits = new CommitLedger(partitions, verdict);
  const load = new Load({ endpoints, topic, partitions, content, ledger, verdict, timeline, now }, { rate, producers: PRODUCERS });
  const { readers, members } = followers({ topic, partitions, ledger, verdict }, parts, commits);
  const field = parts.field(topic);
  const nemesis = new Nemesis({ verdict, timeline, now, progress }, field);
  const until = now() + seconds * 1_000;
  const said = setInterval(() => {
    const left = Math.max(0, (until - now()) / 1_000);
    const last = timeline.seconds.at(-1);
    progress(
      `round ${options.number}: ${ledger.acked} records acknowledged, ${last?.acked ?? 0}/s, p99 ${last?.p99?.toFixed(0) ?? "-"} ms, ${verdict.violations} violations, ${left.toFixed(0)} s left`,
    );
  }, PROGRESS_MS);
  try {
    await queues.start();
    await load.start();
    for (const reader of [...readers, ...members]) reader.start();
    await delay(WARM_UP_MS);
    await torment(parts, nemesis, { until, isFull: () => ledger.isFull });
    if (!(await load.stop(recoverySeconds * 1_000))) {
      const missing = ledger.lanes.reduce((sum, lane) => sum + lane.sent - lane.acked, 0);
      verdict.report("R9", `${missing} records had no outcome ${recoverySeconds} s after the last fault: ${await field.state()}`);
    }
    await queues.stop(recoverySeconds * 1_000);
    await Promise.all([...readers, ...members].map((reader) => reader.close()));
    clearInterval(said);
    await queues.judge(recoverySeconds * 1_000);
    await parts.beforeJudge?.({ ledger, topic, endpoints });
    const readByJudge = await judge({ client, topic, ledger, verdict, progress });
    if (!nemesis.isLost && verdict.violations === 0) {
      const signal = AbortSignal.timeout(DELETE_MS);
      await client.admin.deleteTopic(topic, "", { signal });
      await queues.delete(signal);
    }
    const readLive = readers.reduce((sum, { read }) => sum + read, 0);
    const { sent, acked } = ledger;
    return {
      sent,
      acked,
      notOffered: load.notOffered,
      readLive,
      readByJudge,
      commits: commits.count,
      queues: queues.counts,
      faults: nemesis.records,
      isLost: nemesis.isLost,
    };
  } finally {
    clearInterval(said);
    await nemesis.abort();
    await Promise.all([...readers, ...members].map((reader) => reader.close()));
    await load.close();
    await queues.close();
  }
}

/** Who reads what is sent: through each of some nodes, and as a group. */
function followers(
  readerParts: ReaderParts,
  { client, endpoints }: RoundParts,
  commits: CommitLedger,
): { readonly readers: NodeReader[]; readonly members: GroupMember[] } {
  const readers = endpoints.slice(0, 3).map((endpoint, at) => {
    const others = endpoints.filter((one) => one !== endpoint);
    return new NodeReader(readerParts, `a reader through node ${at + 1}`, [endpoint, ...others]);
  });
  const members = [0, 1].map(
    (member) =>
      new GroupMember(readerParts, {
        client,
        commits,
        subscription: "chaos-group",
        partitions: Array.from({ length: readerParts.partitions }, (_, at) => at).filter((at) => at % 2 === member),
      }),
  );
  return { readers, members };
}

/** Acts of the schedule until the time is up, or just the time where there is none. */
async function torment(
  { schedule, now, progress, signal }: RoundParts,
  nemesis: Nemesis,
  { until, isFull }: { readonly until: number; readonly isFull: () => boolean },
): Promise<void> {
  while (now() < until && !signal.aborted && !nemesis.isLost && !isFull()) {
    const act = schedule?.next();
    if (act === undefined) {
      await delay(Math.min(500, Math.max(1, until - now())));
      continue;
    }
    progress(`act ${act.number}: ${act.strikes.map(({ kind }) => kind.name).join(" with ")}`);
    await nemesis.carryOut(act);
  }
}
