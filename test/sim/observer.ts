// Stands beside the hosts and replicas of the nodes and passes on what the checks want to hear: what a node has written and synced,
// which messages leave, what is taken in, committed and changed. It looks at the product's objects and never touches their state.

import { CATALOG_GROUP } from "../../src/base/ids.ts";
import type { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import type { Configuration, Message } from "../../src/raft/types.ts";
import type { ReplicaHost } from "../../src/replica/host.ts";
import type { Outbox } from "../../src/replica/outbox.ts";
import type { Replica } from "../../src/replica/replica.ts";
import { DurableLog, DurableReplicas } from "./durable-log.ts";
import { HostWatch } from "./host-watch.ts";
import { MemoryChecks } from "./memory-checks.ts";
import { PromiseChecks, type Promising } from "./promise-checks.ts";
import { DATA_DIR, type SimMachine } from "./sim-node.ts";

type Known = { commit: number; term: number; isLeader: boolean; membership: Configuration };
/** What is behind the types of the product. */
type HostParts = { readonly messages: { readonly outbox: Outbox } };
type RaftParts = { readonly core: { readonly changeIndexes: readonly number[] } };

export class Observer {
  private readonly checks: PromiseChecks;
  private readonly memory = new MemoryChecks();
  private readonly hosts = new WeakMap<ReplicaHost, HostWatch>();
  private readonly known = new WeakMap<Replica, Known>();
  private readonly logs = new Map<SimMachine, DurableLog>();
  private readonly catalogs = new WeakMap<object, number>();
  private readonly isStruck: (machine: SimMachine) => boolean;
  private readonly failed: (error: Error) => void;

  /** `isStruck`: its disk was damaged once, other than by crashes. */
  constructor(
    machines: readonly SimMachine[],
    nowMs: () => number,
    failed: (error: Error) => void,
    isStruck: (machine: SimMachine) => boolean,
  ) {
    const replicas = new DurableReplicas();
    this.checks = new PromiseChecks(replicas);
    this.isStruck = isStruck;
    this.failed = failed;
    for (const machine of machines) {
      const log = new DurableLog(machine.name, { replicas, nowMs, failed, store: () => machine.disk.stores.get(`${DATA_DIR}/store`) });
      machine.disk.watcher = log;
      this.logs.set(machine, log);
    }
  }

  /** After an event of this node. Returns its replicas in which something changed; good until the next call. */
  look(machine: SimMachine, host: ReplicaHost): readonly Replica[] {
    const changed = (this.hosts.get(host) ?? this.attach(machine, host)).look();
    for (const replica of changed) {
      const known = this.known.get(replica);
      if (known === undefined) this.opened(machine, replica);
      else this.moved(machine, replica, known);
    }
    this.memory.look(machine.name, host, changed);
    return changed;
  }

  private attach(machine: SimMachine, host: ReplicaHost): HostWatch {
    const watch = new HostWatch(host);
    this.hosts.set(host, watch);
    this.logs.get(machine)!.ended();
    const { outbox } = (host as unknown as HostParts).messages;
    const add = outbox.add.bind(outbox);
    outbox.add = (node, group, message, nowMs) => {
      const isSynced = host.get(group)?.durability.sync ?? true;
      this.tell(() => this.checks.sent(machine.name, group, message, isSynced));
      add(node, group, message, nowMs);
    };
    return watch;
  }

  private opened(machine: SimMachine, replica: Replica): void {
    const { raft, group, descriptor } = replica;
    const log = this.logs.get(machine)!;
    const tornFrom = this.isStruck(machine) ? log.mayBeTornFrom(group) : Number.POSITIVE_INFINITY;
    log.opened(group, this.checks.opened(machine.name, promising(replica), tornFrom));
    this.known.set(replica, { commit: raft.commitIndex, term: raft.term, isLeader: replica.isLeader, membership: raft.configuration });
    const step = raft.step.bind(raft);
    raft.step = (message: Message) => {
      this.tell(() => this.checks.received(machine.name, group, descriptor.self, message));
      step(message);
    };
    const applyChange = raft.applyChange.bind(raft);
    raft.applyChange = (change) => {
      const before = raft.configuration;
      // An entry from before a snapshot that is accepted and not installed yet changes nothing.
      const isBehindSnapshot = raft.applied > replica.applied;
      const after = applyChange(change);
      if (!isBehindSnapshot)
        this.tell(() => {
          this.checks.changed(machine.name, group, replica.applied + 1, before, after);
          if (replica.durability.sync) this.checks.takesEffect(machine.name, group, descriptor.self, replica.applied + 1);
        });
      return after;
    };
  }

  private moved(machine: SimMachine, replica: Replica, known: Known): void {
    const { raft, group, isLeader } = replica;
    if (raft.commitIndex !== known.commit) {
      if (isLeader && known.isLeader && raft.term === known.term && replica.durability.sync)
        this.checks.committed(machine.name, promising(replica), [known.membership, raft.configuration]);
      known.commit = raft.commitIndex;
      if (group === CATALOG_GROUP) this.named(replica.machine as CatalogMachine);
    }
    known.term = raft.term;
    known.isLeader = isLeader;
    known.membership = raft.configuration;
    if (!isLeader) return;
    const { changeIndexes } = (raft as unknown as RaftParts).core;
    if (changeIndexes.length > 1)
      this.checks.pendingChanges(machine.name, group, changeIndexes.filter((index) => index > raft.commitIndex).length);
  }

  /** Within calls of the product: what a check throws is none of the product's business. */
  private tell(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.failed(error as Error);
    }
  }

  /** Looks at what the numbers of groups stand for, when the catalog has changed. */
  private named(catalog: CatalogMachine): void {
    if (this.catalogs.get(catalog) === catalog.viewVersion) return;
    this.catalogs.set(catalog, catalog.viewVersion);
    for (const { vhost, name, createdMs, partitions } of catalog.topics())
      partitions.forEach(({ group }, partition) => this.checks.named(group, `partition ${partition} of ${vhost}/${name} of ${createdMs}`));
  }
}

function promising(replica: Replica): Promising {
  const { raft, group, descriptor } = replica;
  return {
    group,
    self: descriptor.self,
    term: raft.term,
    vote: raft.vote,
    commitIndex: raft.commitIndex,
    firstIndex: raft.firstIndex,
    lastIndex: raft.lastIndex,
    termAt: (index) => raft.termAt(index),
  };
}
