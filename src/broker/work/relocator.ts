// Stores anew what holds back much more than it has, for the queues led here: one at a time on this node.

import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { RELOCATED_BYTES_MAX } from "../../base/limits.ts";
import type { Logger } from "../../base/logger.ts";
import { encodeRelocate, type RelocatedRun } from "../../machine/stream/commands.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import { ENTRY_COMMAND } from "../../raft/types.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import type { Replica } from "../../replica/replica.ts";
import { endAfter } from "../wait-until.ts";
import type { Clock } from "../../base/clock.ts";
import type { RunReader } from "./run-reader.ts";

const READ_MS_MAX = 10_000;

export type RelocatorComponents = {
  readonly host: ReplicaHost;
  readonly reader: RunReader;
  readonly clock: Clock;
  readonly logger: Logger;
};

export class Relocator {
  private readonly components: RelocatorComponents;
  private isBusy = false;

  constructor(components: RelocatorComponents) {
    this.components = components;
  }

  look(group: GroupId, replica: Replica): void {
    if (this.isBusy) return;
    const runs = (replica.machine as StreamMachine).relocationCandidate();
    if (runs.length === 0) return;
    this.isBusy = true;
    this.relocate(group, runs).then(
      () => (this.isBusy = false),
      (error: unknown) => {
        this.isBusy = false;
        if (!(error instanceof BrokerError)) throw error;
        this.components.logger.debug({ group, error: error.message }, "records could not be stored anew; it is tried again");
      },
    );
  }

  private async relocate(group: GroupId, runs: readonly { readonly from: number; readonly end: number }[]): Promise<void> {
    const { host, reader, clock } = this.components;
    const parts: Uint8Array[] = [];
    const moved: RelocatedRun[] = [];
    let bytes = 0;
    for (const { from, end } of runs) {
      if (bytes >= RELOCATED_BYTES_MAX) break;
      const slices = await reader.read(group, from, end, RELOCATED_BYTES_MAX, endAfter(clock, READ_MS_MAX));
      for (const { from: first, end: last, timeMs, records } of slices) {
        if (bytes > 0 && bytes + records.length > RELOCATED_BYTES_MAX) break;
        moved.push({ from: first, end: last, timeMs });
        parts.push(records);
        bytes += records.length;
      }
    }
    if (moved.length === 0) return;
    const joined = new Uint8Array(bytes);
    let at = 0;
    for (const part of parts) {
      joined.set(part, at);
      at += part.length;
    }
    await new Promise<void>((resolve) => host.propose(group, ENTRY_COMMAND, encodeRelocate(moved, joined), () => resolve()));
  }
}
