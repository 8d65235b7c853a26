// One replica with everything that a host owes its core, in memory: a disk that keeps only what was written, a cache of
// entries, a machine that remembers what it applied. Writes end when the test says so.

import { decodeChange } from "../../src/raft/configuration-codec.ts";
import { RaftNode } from "../../src/raft/raft-node.ts";
import {
  ENTRY_CONFIGURATION,
  MSG_APPEND,
  MSG_SNAPSHOT,
  PROPOSE_OK,
  type Configuration,
  type Entry,
  type HardState,
  type Message,
  type RaftSettings,
  type Ready,
  type TermRun,
} from "../../src/raft/types.ts";

export type Checkpoint = {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
  readonly history: readonly Entry[];
};
/** A message under way; a snapshot travels with its data. */
export type Mail = { readonly message: Message; readonly checkpoint: Checkpoint | null };
export type Write = { readonly ready: Ready; readonly checkpoint: Checkpoint | null };

export const NO_MEMBERS: Configuration = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

export function members(voters: readonly number[], learners: readonly number[] = []): Configuration {
  return { ...NO_MEMBERS, voters, learners };
}

export const DEFAULT_SETTINGS: Omit<RaftSettings, "id"> = {
  electionTicks: 10,
  heartbeatTicks: 1,
  preVote: true,
  checkQuorum: true,
  inflightMessagesMax: 16,
  inflightBytesMax: 1 << 20,
  appendBytesMax: 1 << 16,
  uncommittedBytesMax: 1 << 20,
};

export type PeerOptions = {
  readonly settings?: Partial<RaftSettings>;
  readonly start?: Checkpoint;
  readonly random?: { below(bound: number): number };
};

/** Contents of the log after `base`; `entries[0].index === base.index + 1`. */
class StoredLog {
  base = { index: 0, term: 0 };
  entries: Entry[] = [];

  get lastIndex(): number {
    return this.base.index + this.entries.length;
  }

  put(entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    const keep = entries[0]!.index - this.base.index - 1;
    if (keep < 0 || keep > this.entries.length)
      throw new Error(`entry ${entries[0]!.index} does not fit a log of ${this.base.index}..${this.lastIndex}`);
    this.entries.length = keep;
    this.entries.push(...entries);
  }

  get(index: number): Entry | undefined {
    return this.entries[index - this.base.index - 1];
  }

  range(first: number, last: number): Entry[] {
    const entries = this.entries.slice(first - this.base.index - 1, last - this.base.index);
    if (entries.length !== last - first + 1 || entries[0]!.index !== first) throw new Error(`entries ${first}..${last} are not in the log`);
    return entries;
  }

  cut(index: number, term: number): void {
    this.entries = this.entries.slice(index - this.base.index);
    this.base = { index, term };
  }

  reset(index: number, term: number): void {
    this.entries = [];
    this.base = { index, term };
  }

  runs(): TermRun[] {
    const runs: TermRun[] = [];
    for (const entry of this.entries) if (runs.at(-1)?.term !== entry.term) runs.push({ term: entry.term, firstIndex: entry.index });
    return runs;
  }
}

export class RaftPeer {
  readonly id: number;
  readonly settings: RaftSettings;
  node: RaftNode;
  /** Every entry that a Ready carried. */
  cache = new StoredLog();
  /** What a restart finds. */
  readonly disk = { hardState: { term: 0, vote: 0, commit: 0 } as HardState, log: new StoredLog() };
  checkpoint: Checkpoint;
  /** Handed out and not yet done, oldest first. */
  writes: Write[] = [];
  /** The machine: what was applied, in order, and the membership there. */
  history: Entry[] = [];
  applied = 0;
  configuration: Configuration;
  private configurations: { readonly index: number; readonly configuration: Configuration }[] = [];
  committedTo = 0;
  reads: { readonly token: number; readonly index: number }[] = [];
  readsDropped: number[] = [];
  /** Every Ready, newest last, for tests that look at one. */
  readies: Ready[] = [];
  private staged: Checkpoint[] = [];
  private readonly random: { below(bound: number): number };

  constructor(id: number, options: PeerOptions = {}) {
    this.id = id;
    this.settings = { ...DEFAULT_SETTINGS, ...options.settings, id };
    this.random = options.random ?? { below: (bound) => id % bound };
    const start = options.start ?? { index: 0, term: 0, configuration: NO_MEMBERS, history: [] };
    this.checkpoint = start;
    this.configuration = start.configuration;
    this.disk.log.reset(start.index, start.term);
    this.disk.hardState = { term: 0, vote: 0, commit: start.index };
    this.node = this.boot();
  }

  /** Power cut: of the writes under way the first `kept` made it, what follows is gone. Messages that left stay under way. */
  restart(kept = 0): void {
    for (const write of this.writes.slice(0, kept)) this.store(write, false);
    this.writes = [];
    this.staged = [];
    this.readies = [];
    this.reads = [];
    this.node = this.boot();
  }

  private boot(): RaftNode {
    const { log, hardState } = this.disk;
    const { checkpoint } = this;
    this.cache = new StoredLog();
    this.cache.reset(log.base.index, log.base.term);
    this.cache.put(log.entries);
    this.history = [...checkpoint.history];
    this.applied = checkpoint.index;
    this.committedTo = checkpoint.index;
    this.configuration = checkpoint.configuration;
    this.configurations = [{ index: checkpoint.index, configuration: checkpoint.configuration }];
    return new RaftNode(
      this.settings,
      { random: this.random, entryBytes: (index) => this.cache.get(index)?.payload.length ?? 0 },
      {
        hardState: { ...hardState, commit: Math.max(hardState.commit, checkpoint.index) },
        configuration: checkpoint.configuration,
        compacted: log.base,
        termRuns: log.runs(),
        lastIndex: log.lastIndex,
        applied: checkpoint.index,
      },
    );
  }

  /** Takes the next Ready; its immediate messages are returned, its write is queued. */
  takeReady(): { ready: Ready; mail: Mail[] } {
    const ready = this.node.ready();
    this.readies.push(ready);
    if (this.readies.length > 64) this.readies.shift();
    let checkpoint: Checkpoint | null = null;
    if (ready.snapshot !== null) {
      const { index } = ready.snapshot;
      checkpoint = this.staged.find((one) => one.index === index) ?? null;
      if (checkpoint === null) throw new Error(`snapshot ${index} was never staged`);
      this.staged = [];
      this.install(checkpoint);
    }
    this.cache.put(ready.entries);
    if (ready.committedTo > this.committedTo) this.committedTo = ready.committedTo;
    this.reads.push(...ready.reads);
    this.readsDropped.push(...ready.readsDropped);
    const mail = ready.messages.flatMap((message) => this.fill(message));
    this.writes.push({ ready, checkpoint });
    return { ready, mail };
  }

  /** The oldest write ends; the messages that waited for it. `dropCommit`: a commit index alone need not be written. */
  finishWrite(dropCommit = false): Mail[] {
    const write = this.writes.shift()!;
    const { ready } = write;
    this.store(write, dropCommit);
    if (ready.writeSequence > 0) this.node.persisted(ready.writeSequence);
    return ready.messagesAfterPersist.flatMap((message) => this.fill(message));
  }

  private store({ ready, checkpoint }: Write, dropCommit: boolean): void {
    const { log } = this.disk;
    if (checkpoint !== null) {
      log.reset(checkpoint.index, checkpoint.term);
      this.checkpoint = checkpoint;
    }
    log.put(ready.entries);
    if (ready.hardState !== null && (ready.mustSync || !dropCommit)) this.disk.hardState = ready.hardState;
  }

  /** Applies up to `index`; `report` tells the core. */
  apply(index = this.committedTo, report = true): Entry[] {
    const applied: Entry[] = [];
    while (this.applied < index) {
      const entry = this.cache.get(this.applied + 1);
      if (entry === undefined) throw new Error(`entry ${this.applied + 1} is committed and not here`);
      if (entry.kind === ENTRY_CONFIGURATION) {
        this.configuration = this.node.applyChange(decodeChange(entry.payload));
        this.configurations.push({ index: entry.index, configuration: this.configuration });
      }
      this.history.push(entry);
      this.applied = entry.index;
      applied.push(entry);
    }
    if (report && applied.length > 0) this.node.appliedTo(this.applied);
    return applied;
  }

  receive({ message, checkpoint }: Mail): void {
    if (message.kind === MSG_SNAPSHOT && checkpoint !== null) this.staged.push(checkpoint);
    this.node.step(message);
  }

  /** Saves a checkpoint at `index` and cuts the log there. Only what is applied and on disk can be cut. */
  compact(index = this.applied): void {
    const isInstalling = this.writes.some(({ checkpoint }) => checkpoint !== null);
    if (isInstalling || index > this.disk.log.lastIndex || index <= this.cache.base.index) return;
    this.checkpoint = this.checkpointAt(index);
    const { term } = this.checkpoint;
    this.disk.log.cut(index, term);
    if (this.disk.hardState.commit < index) this.disk.hardState = { ...this.disk.hardState, commit: index };
    this.cache.cut(index, term);
    this.node.compact(index, term);
  }

  checkpointAt(index: number): Checkpoint {
    const history = this.history.filter((entry) => entry.index <= index);
    const term = history.at(-1)?.term ?? this.checkpoint.term;
    let { configuration } = this;
    for (const one of this.configurations) if (one.index <= index) configuration = one.configuration;
    return { index, term, configuration, history };
  }

  propose(text: string): boolean {
    const payload = new TextEncoder().encode(text);
    return this.node.propose(1, 0, [{ payload, crc: payload.length }]) === PROPOSE_OK;
  }

  /** Payloads applied so far, as text; no-ops and membership changes aside. */
  get values(): string[] {
    return this.history.filter((entry) => entry.kind === 1).map(textOf);
  }

  private install(checkpoint: Checkpoint): void {
    this.history = [...checkpoint.history];
    this.applied = checkpoint.index;
    this.committedTo = Math.max(this.committedTo, checkpoint.index);
    this.configuration = checkpoint.configuration;
    this.configurations = [{ index: checkpoint.index, configuration: checkpoint.configuration }];
    this.cache.reset(checkpoint.index, checkpoint.term);
  }

  /** What the host does on sending: entries from the cache, a checkpoint for a snapshot. */
  private fill(message: Message): Mail[] {
    if (message.kind === MSG_APPEND) {
      // A leader that lost its place meanwhile no longer owns the range (the host drops such a message).
      if (message.index < this.cache.base.index && message.lastEntry > message.index) {
        // The log was cut since the core wrote the message: what cannot be read is reported, and a snapshot follows.
        this.node.reportUnreachable(message.to);
        return [];
      }
      const isCurrent = this.node.isLeader && this.node.term === message.term;
      message.entries = message.lastEntry === message.index || !isCurrent ? [] : this.cache.range(message.index + 1, message.lastEntry);
      if (!isCurrent) message.lastEntry = message.index;
    }
    if (message.kind !== MSG_SNAPSHOT) return [{ message, checkpoint: null }];
    // The newest state there is; the core asks for no more than the start of its log.
    const checkpoint = this.checkpointAt(this.applied);
    message.index = checkpoint.index;
    message.logTerm = checkpoint.term;
    message.snapshot = { index: checkpoint.index, term: checkpoint.term, configuration: checkpoint.configuration };
    return [{ message, checkpoint }];
  }
}

export function textOf(entry: Entry): string {
  return new TextDecoder().decode(entry.payload);
}
