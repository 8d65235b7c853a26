// What thousands of groups of a node have in common is in memory once: few of them differ in their members, and in hardly
// any this node has another id.

import type { ReplicaId } from "../base/ids.ts";
import { APPEND_BYTES_MAX, INFLIGHT_BYTES_MAX, INFLIGHT_MESSAGES_MAX, SHARED_MAX, UNCOMMITTED_BYTES_MAX } from "../base/limits.ts";
import type { Configuration, RaftSettings } from "../raft/types.ts";

export class Shared {
  private readonly ticks: { readonly electionTicks: number; readonly heartbeatTicks: number };
  private readonly settings = new Map<ReplicaId, RaftSettings>();
  private readonly configurations = new Map<string, Configuration>();

  constructor(ticks: { readonly electionTicks: number; readonly heartbeatTicks: number }) {
    this.ticks = ticks;
  }

  /** Of the replica `id`, in whatever group. */
  settingsOf(id: ReplicaId): RaftSettings {
    return known(this.settings, id, () => ({
      id,
      electionTicks: this.ticks.electionTicks,
      heartbeatTicks: this.ticks.heartbeatTicks,
      preVote: true,
      checkQuorum: true,
      inflightMessagesMax: INFLIGHT_MESSAGES_MAX,
      inflightBytesMax: INFLIGHT_BYTES_MAX,
      appendBytesMax: APPEND_BYTES_MAX,
      uncommittedBytesMax: UNCOMMITTED_BYTES_MAX,
    }));
  }

  /** An equal one, the same for all that ask for it. */
  configurationOf(configuration: Configuration): Configuration {
    return known(this.configurations, JSON.stringify(configuration), () => configuration);
  }
}

/** Beyond the bound all are forgotten: those in use are only no longer shared with what comes. */
function known<K, V>(values: Map<K, V>, key: K, make: () => V): V {
  let value = values.get(key);
  if (value === undefined) {
    value = make();
    if (values.size >= SHARED_MAX) values.clear();
    values.set(key, value);
  }
  return value;
}
