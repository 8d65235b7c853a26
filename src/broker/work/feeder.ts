// Feeds their backlog to the work subscriptions of the groups led here: reads records, looks what is to be known of them, and says so to the
// group. A step at a time, and never much more than consumers take: what is known of messages is held in memory, and a backlog may be huge.

import type { Clock } from "../../base/clock.ts";
import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { FED_READY_MAX, FEED_BYTES_MAX, FEED_RECORDS_MAX, FEEDS_MAX } from "../../base/limits.ts";
import type { Logger } from "../../base/logger.ts";
import { encodeWork } from "../../machine/stream/commands.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import type { FedBatch } from "../../machine/work/backlog.ts";
import { ENTRY_COMMAND } from "../../raft/types.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import { factsOfStored } from "../record-scan.ts";
import { endAfter } from "../wait-until.ts";
import type { RecordSlice, RunReader } from "./run-reader.ts";

const READ_MS_MAX = 10_000;
/** What could not be read or said is tried again so long after. */
const RETRY_MS = 200;

export type FeederComponents = {
  readonly host: ReplicaHost;
  readonly reader: Pick<RunReader, "read">;
  readonly clock: Clock;
  readonly logger: Logger;
};

type Job = { readonly group: GroupId; readonly name: string };

export class Feeder {
  private readonly components: FeederComponents;
  /** Subscriptions that are to have a step, have one, or wait after one that failed. */
  private readonly jobs = new Set<string>();
  /** Whose turn is next first: one step each. */
  private readonly waiting: Job[] = [];
  private running = 0;

  constructor(components: FeederComponents) {
    this.components = components;
  }

  /** Looks whether subscriptions of the group, if it is led here, have a backlog and room for some of it. */
  look(group: GroupId): void {
    const machine = this.machineOf(group);
    if (machine === null) return;
    for (const name of machine.works.list()) if (hasWork(machine, name)) this.add({ group, name });
    this.run();
  }

  private machineOf(group: GroupId): StreamMachine | null {
    const replica = this.components.host.get(group);
    return replica !== undefined && replica.isLeader && replica.descriptor.kind === "stream" ? (replica.machine as StreamMachine) : null;
  }

  private add(job: Job): void {
    const key = keyOf(job);
    if (this.jobs.has(key)) return;
    this.jobs.add(key);
    this.waiting.push(job);
  }

  private run(): void {
    while (this.running < FEEDS_MAX && this.waiting.length > 0) {
      const job = this.waiting.shift()!;
      this.running += 1;
      this.step(job).then(
        () => this.ended(job, null),
        (error: unknown) => {
          if (!(error instanceof BrokerError)) throw error;
          this.ended(job, error);
        },
      );
    }
  }

  private ended(job: Job, error: BrokerError | null): void {
    const { clock, logger } = this.components;
    this.running -= 1;
    const again = (): void => {
      this.jobs.delete(keyOf(job));
      this.look(job.group);
    };
    if (error === null) again();
    else {
      logger.debug({ group: job.group, subscription: job.name, error: error.message }, "a backlog could not be fed; it is tried again");
      clock.schedule(RETRY_MS, again);
    }
    this.run();
  }

  /** Rejects with BrokerError. */
  private async step({ group, name }: Job): Promise<void> {
    const { reader, clock, host } = this.components;
    const machine = this.machineOf(group);
    if (machine === null || !hasWork(machine, name)) return;
    const from = machine.works.get(name)!.state.fedTo;
    const end = Math.min(machine.endOffset, from + FEED_RECORDS_MAX);
    const slices = await reader.read(group, from, end, FEED_BYTES_MAX, endAfter(clock, READ_MS_MAX));
    // Something was trimmed meanwhile: what was read does not begin where the backlog does.
    if (slices[0]!.from !== from) return;
    const payload = encodeWork([{ op: "feed", name, from, batches: slices.map(batchOf) }]);
    const code = await new Promise<number>((resolve) => host.propose(group, ENTRY_COMMAND, payload, resolve));
    if (code < 0) throw new BrokerError("NOT_LEADER", "the group is led elsewhere, or takes nothing at the moment");
  }
}

function keyOf({ group, name }: Job): string {
  return `${group}/${name}`;
}

function hasWork({ works, endOffset }: StreamMachine, name: string): boolean {
  const state = works.get(name)?.state;
  return state !== undefined && state.fedTo < endOffset && state.lanes.size < FED_READY_MAX;
}

function batchOf({ from, end, timeMs, records }: RecordSlice): FedBatch {
  const count = end - from;
  return { count, timeMs, bytesEach: Math.ceil(records.length / count), facts: factsOfStored(records, timeMs) };
}
