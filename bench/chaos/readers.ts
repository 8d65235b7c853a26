// Readers that follow the load, each through a node of its own, which passes on what it does not lead; and a group that
// works through the topic and commits how far it is.

import { setTimeout as delay } from "node:timers/promises";
import { Consumer, decodeBatch, Flotilla, FlotillaError } from "../../src/client/index.ts";
import type { CommitLedger } from "./commit-ledger.ts";
import type { Ledger } from "./ledger.ts";
import { ReadSession } from "./read-session.ts";
import type { Verdict } from "./verdict.ts";

const RETRY_MS = 100;
const WAIT_MS = 500;
const DEADLINE_MS = 10_000;
const FETCH_BYTES = 512 * 1024;
/** Fetches of a reader between two questions for the ends. */
const ENDS_EVERY = 10;
/** A member commits after so long, and leaves after so many commits, without a word, to begin again where it committed. */
const COMMIT_MS = 200;
const COMMITS_PER_LIFE = 25;

export type ReaderParts = { readonly topic: string; readonly partitions: number; readonly ledger: Ledger; readonly verdict: Verdict };

/** Follows all partitions through one node, or through another one while that does not answer. */
export class NodeReader {
  read = 0;
  private readonly parts: ReaderParts;
  private readonly endpoints: readonly string[];
  private readonly who: string;
  private readonly stop = new AbortController();
  private running: Promise<void> = Promise.resolve();

  constructor(parts: ReaderParts, who: string, endpoints: readonly string[]) {
    this.parts = parts;
    this.who = who;
    this.endpoints = endpoints;
  }

  start(): void {
    this.running = this.run();
  }

  async close(): Promise<void> {
    this.stop.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { topic, partitions, ledger, verdict } = this.parts;
    const { signal } = this.stop;
    const sessions = Array.from({ length: partitions }, (_, partition) => new ReadSession(ledger, verdict, partition, this.who));
    const client = await this.connect();
    for (let turn = 1; !signal.aborted && client !== null; turn++) {
      const positions = sessions.map(({ position: offset }, partition) => ({ partition, from: { offset } }));
      try {
        const answers = await client.fetch(topic, positions, { maxBytes: FETCH_BYTES, maxWaitMs: WAIT_MS, signal });
        let failures = 0;
        for (const { partition, batches, startOffset, endOffset, nextOffset, error } of answers) {
          const session = sessions[partition]!;
          if (error !== null) {
            failures += 1;
            if (error.code === "OFFSET_OUT_OF_RANGE") session.denied(`${error.message} (first ${startOffset}, end ${endOffset})`);
            continue;
          }
          const before = session.read;
          const decoded = batches.map(({ baseOffset, storedMs, bytes }) => ({
            baseOffset,
            records: decodeBatch(bytes, { partition, baseOffset, storedMs }),
          }));
          session.fetched({ batches: decoded, endOffset, nextOffset });
          this.read += session.read - before;
        }
        if (failures > 0) await delay(RETRY_MS);
        if (turn % ENDS_EVERY === 0) await this.checkEnds(client);
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        if (error.code === "MALFORMED_BATCH") verdict.report("L1", `${this.who}: ${error.message}`);
        await delay(RETRY_MS);
      }
    }
    await client?.close();
  }

  /** Nothing that was told to anybody before the question may be missing. */
  private async checkEnds(client: Flotilla): Promise<void> {
    const { topic, partitions, ledger } = this.parts;
    const known = Array.from({ length: partitions }, (_, partition) => ledger.endKnown(partition));
    for (const { partition, endOffset, error } of await client.getOffsets(topic, { signal: this.stop.signal }))
      if (error === null) ledger.endSeen(partition, endOffset, known[partition]!);
  }

  private async connect(): Promise<Flotilla | null> {
    while (!this.stop.signal.aborted) {
      try {
        return await Flotilla.connect({ endpoints: this.endpoints, deadlineMs: DEADLINE_MS });
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        await delay(RETRY_MS);
      }
    }
    return null;
  }
}

/** One member of the group, for some of the partitions; it dies and is replaced again and again. */
export class GroupMember {
  private readonly parts: ReaderParts;
  private readonly commits: CommitLedger;
  private readonly subscription: string;
  private readonly partitions: readonly number[];
  private readonly client: Flotilla;
  private readonly stop = new AbortController();
  private running: Promise<void> = Promise.resolve();

  constructor(
    parts: ReaderParts,
    group: {
      readonly client: Flotilla;
      readonly commits: CommitLedger;
      readonly subscription: string;
      readonly partitions: readonly number[];
    },
  ) {
    this.parts = parts;
    this.client = group.client;
    this.commits = group.commits;
    this.subscription = group.subscription;
    this.partitions = group.partitions;
  }

  start(): void {
    this.running = this.run();
  }

  async close(): Promise<void> {
    this.stop.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    while (!this.stop.signal.aborted) {
      try {
        await this.live();
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        if (error.code === "OFFSET_OUT_OF_RANGE" || error.code === "OFFSET_WOULD_GO_BACK" || error.code === "MALFORMED_BATCH")
          this.parts.verdict.report("L7", `a member of the group was refused: ${error.code}: ${error.message}`);
        await delay(RETRY_MS);
      }
    }
  }

  private async live(): Promise<void> {
    const { topic, ledger, verdict } = this.parts;
    const { signal } = this.stop;
    await this.check();
    const confirmed = this.partitions.map((partition) => this.commits.confirmed(partition));
    const consumer: Consumer = await this.client.consumer(topic, {
      subscription: this.subscription,
      from: "committed",
      partitions: this.partitions,
      maxWaitMs: WAIT_MS,
      signal,
    });
    let [commits, committedMs] = [0, Date.now()];
    const next = new Map<number, number>();
    try {
      for await (const { partition, baseOffset, nextOffset, records } of consumer.batches()) {
        const expected = next.get(partition);
        // The first one shows where the life before had got to.
        if (expected === undefined) this.commits.seen(partition, baseOffset, confirmed[this.partitions.indexOf(partition)]!);
        else if (baseOffset !== expected)
          verdict.report("L5", `the group in partition ${partition}: offset ${baseOffset} follows ${expected - 1}`);
        for (const { offset, key, body } of records) ledger.observed(partition, offset, key, body);
        next.set(partition, nextOffset);
        if (Date.now() - committedMs < COMMIT_MS) continue;
        for (const [one, offset] of next) this.commits.committing(one, offset);
        const asked = [...next];
        await consumer.commit();
        for (const [one, offset] of asked) this.commits.committed(one, offset);
        committedMs = Date.now();
        commits += 1;
        if (commits >= COMMITS_PER_LIFE) return;
      }
    } finally {
      await consumer.close();
    }
  }

  /** What is told of the committed offsets now. */
  private async check(): Promise<void> {
    const confirmed = this.partitions.map((partition) => this.commits.confirmed(partition));
    const answers = await this.client.getOffsets(this.parts.topic, { subscription: this.subscription, partitions: this.partitions });
    for (const { partition, committedOffset, error } of answers)
      if (error === null) this.commits.seen(partition, committedOffset ?? 0, confirmed[this.partitions.indexOf(partition)]!);
  }
}
