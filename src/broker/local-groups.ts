// What this node does for the groups that it leads: read, propose, wait. Requests of this node's clients and forwarded
// ones of other nodes come the same way.

import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import type { GroupId } from "../base/ids.ts";
import { FETCH_BATCH_OVERHEAD_BYTES, FETCH_ERROR_BYTES, FETCH_WAIT_MS_MAX } from "../base/limits.ts";
import type { Pacer } from "../base/pacer.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Replica } from "../replica/replica.ts";
import type { OffsetsBody } from "./forward-codec.ts";
import { StreamReader } from "./stream-reader.ts";
import { FROM_EARLIEST, FROM_LATEST, FROM_OFFSET, FROM_TIME, type FetchedBatch } from "./types.ts";

export type GroupFetch = { readonly group: GroupId; readonly from: 0 | 1 | 2 | 3; readonly value: number };
export type GroupFetched = {
  readonly batches: readonly FetchedBatch[];
  readonly startOffset: number;
  readonly endOffset: number;
  readonly nextOffset: number;
  readonly error: BrokerError | null;
};
export type CursorInfo = { readonly name: string; readonly offset: number; readonly committedMs: number };
export type GroupOffsets = {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly bytes: number;
  readonly committedOffset: number;
  readonly metadata: string;
  readonly timeOffset: number;
  /** As many subscriptions as were asked for. */
  readonly cursors: readonly CursorInfo[];
  readonly error: BrokerError | null;
};

/** Positions of long polls that may wait at one time on one node. */
const WAITERS_MAX = 100_000;
/** Long polls of one group that new records wake in one go. */
const WAKES_PER_STEP = 256;

export class LocalGroups {
  private readonly host: ReplicaHost;
  private readonly clock: Clock;
  private readonly pacer: Pacer;
  private readonly reader: StreamReader;
  private readonly waiters = new Map<GroupId, Set<() => void>>();
  private waiting = 0;

  constructor(host: ReplicaHost, clock: Clock, pacer: Pacer) {
    this.host = host;
    this.clock = clock;
    this.pacer = pacer;
    this.reader = new StreamReader(host, pacer);
  }

  /** New records of a group can be read: wakes its long polls. */
  advanced(group: GroupId): void {
    const waiters = this.waiters.get(group);
    if (waiters === undefined) return;
    this.waiters.delete(group);
    if (waiters.size <= WAKES_PER_STEP) for (const wake of waiters) wake();
    else void this.wakeInSteps([...waiters]);
  }

  private async wakeInSteps(waiters: readonly (() => void)[]): Promise<void> {
    for (let start = 0; start < waiters.length; start += WAKES_PER_STEP) {
      for (const wake of waiters.slice(start, start + WAKES_PER_STEP)) wake();
      // What is refused a turn goes on without one: somebody waits for each of these.
      await Promise.resolve(this.pacer.turn()).catch(() => {});
    }
  }

  /** Reads from groups that this node leads; waits for the first record of any of them if all are at their end. */
  async fetch(fetches: readonly GroupFetch[], maxBytes: number, maxWaitMs: number, signal: AbortSignal): Promise<GroupFetched[]> {
    await this.current(fetches);
    const positions = fetches.map((fetch) => this.position(fetch));
    const deadline = this.clock.monotonicMs() + Math.min(maxWaitMs, FETCH_WAIT_MS_MAX);
    for (;;) {
      const fetched: GroupFetched[] = [];
      let bytes = 0;
      for (const position of positions) {
        const turn = this.pacer.turn();
        if (turn !== null) await turn;
        if (signal.aborted) throw callerLeft();
        const part = await this.read(position, Math.max(0, maxBytes - bytes), bytes === 0);
        bytes += fetchedBytes(part);
        fetched.push(part);
      }
      const waitMs = deadline - this.clock.monotonicMs();
      if (bytes > 0 || waitMs <= 0 || signal.aborted || fetched.some((part) => part.error !== null)) return fetched;
      await this.waitForAny(positions, waitMs, signal);
      // Others may have led in between.
      await this.current(positions);
    }
  }

  /** Whoever leads since a moment ago may not know yet what was acknowledged before: it must not tell of an end that goes back. */
  private async current(groups: readonly { readonly group: GroupId }[]): Promise<void> {
    for (const { group } of groups) {
      const replica = this.host.get(group);
      if (replica?.isLeader === true && !replica.leadsCurrent) await this.confirmed(group);
    }
  }

  /** Positions, committed offsets and sizes, of a few groups. Linearizable: a read barrier goes first. */
  async offsets(question: OffsetsBody): Promise<GroupOffsets[]> {
    const turn = this.pacer.turn();
    if (turn !== null) await turn;
    return Promise.all(question.groups.map((group) => this.groupOffsets(group, question)));
  }

  /** The replica that leads here, or the error that says who does. */
  leading(group: GroupId): Replica | BrokerError {
    const replica = this.host.get(group);
    if (replica !== undefined && replica.isLeader) return replica;
    const leader = replica?.leaderNode ?? 0;
    return new BrokerError("NOT_LEADER", "this node does not lead the partition", leader === 0 ? {} : { leader: String(leader) });
  }

  private position(fetch: GroupFetch): { group: GroupId; offset: number; error: BrokerError | null; timeMs: number } {
    const replica = this.leading(fetch.group);
    if (replica instanceof BrokerError) return { group: fetch.group, offset: -1, error: replica, timeMs: -1 };
    const machine = replica.machine as StreamMachine;
    switch (fetch.from) {
      case FROM_OFFSET:
        return { group: fetch.group, offset: fetch.value, error: null, timeMs: -1 };
      case FROM_EARLIEST:
        return { group: fetch.group, offset: machine.startOffset, error: null, timeMs: -1 };
      case FROM_LATEST:
        return { group: fetch.group, offset: machine.endOffset, error: null, timeMs: -1 };
      case FROM_TIME:
        return { group: fetch.group, offset: -1, error: null, timeMs: fetch.value };
    }
  }

  private async read(
    position: { group: GroupId; offset: number; error: BrokerError | null; timeMs: number },
    maxBytes: number,
    atLeastOne: boolean,
  ): Promise<GroupFetched> {
    if (position.error !== null) return failed(position.error);
    const replica = this.leading(position.group);
    if (replica instanceof BrokerError) return failed(replica);
    const machine = replica.machine as StreamMachine;
    // Who was told of this offset by a newer leader must not hear from one that has yet to notice that it does not exist.
    if (position.offset > machine.endOffset && !(await this.confirmed(position.group)))
      return failed(new BrokerError("NO_LEADER", "leadership was lost before the read was confirmed"));
    if (position.offset < 0) {
      position.offset = await this.reader.offsetOfTime(replica, position.timeMs);
    }
    const { startOffset, endOffset } = machine;
    if (position.offset < startOffset) return failed(noLongerHeld(position.offset, machine), startOffset, endOffset);
    if (position.offset > endOffset) return failed(notYetThere(position.offset, machine), startOffset, endOffset);
    if (position.offset === endOffset || (maxBytes === 0 && !atLeastOne)) {
      return { batches: [], startOffset, endOffset, nextOffset: position.offset, error: null };
    }
    try {
      const batches = await this.reader.read(replica, position.offset, endOffset, maxBytes);
      const last = batches[batches.length - 1];
      if (last === undefined) return failed(noLongerHeld(position.offset, machine), machine.startOffset, machine.endOffset);
      return {
        batches,
        startOffset: machine.startOffset,
        endOffset: machine.endOffset,
        nextOffset: last.baseOffset + last.count,
        error: null,
      };
    } catch (error) {
      if (error instanceof BrokerError) return failed(error, startOffset, endOffset);
      throw error;
    }
  }

  private waitForAny(positions: readonly { group: GroupId }[], waitMs: number, signal: AbortSignal): Promise<void> {
    if (this.waiting + positions.length > WAITERS_MAX)
      throw new BrokerError("OVERLOADED", `fetches of ${WAITERS_MAX} positions wait on this node already`);
    this.waiting += positions.length;
    let isAwake = false;
    return new Promise((resolve) => {
      const wake = (): void => {
        if (isAwake) return;
        isAwake = true;
        this.waiting -= positions.length;
        timer.cancel();
        signal.removeEventListener("abort", wake);
        for (const { group } of positions) this.waiters.get(group)?.delete(wake);
        resolve();
      };
      const timer = this.clock.schedule(waitMs, wake);
      signal.addEventListener("abort", wake, { once: true });
      for (const { group } of positions) {
        let waiters = this.waiters.get(group);
        if (waiters === undefined) this.waiters.set(group, (waiters = new Set()));
        waiters.add(wake);
      }
    });
  }

  /** True once this node is known to lead still and has applied all that was committed at the call. */
  private confirmed(group: GroupId): Promise<boolean> {
    return new Promise((resolve) => this.host.readBarrier(group, resolve));
  }

  private async groupOffsets(group: GroupId, { subscription, timeMs, cursorsAfter, cursorsMax }: OffsetsBody): Promise<GroupOffsets> {
    const replica = this.leading(group);
    if (replica instanceof BrokerError) return failedOffsets(replica);
    if (!(await this.confirmed(group)))
      return failedOffsets(new BrokerError("NO_LEADER", "leadership was lost before the read was confirmed"));
    const machine = replica.machine as StreamMachine;
    const cursor = subscription === "" ? undefined : machine.cursor(subscription);
    return {
      startOffset: machine.startOffset,
      endOffset: machine.endOffset,
      bytes: machine.bytes,
      committedOffset: cursor?.offset ?? -1,
      metadata: cursor?.metadata ?? "",
      timeOffset: timeMs < 0 ? -1 : await this.reader.offsetOfTime(replica, timeMs),
      cursors: cursorsMax === 0 ? [] : machine.listCursors(cursorsAfter, cursorsMax),
      error: null,
    };
  }
}

/** Reading goes no further for somebody who is gone, or work would pile up that nobody waits for. */
export function callerLeft(): BrokerError {
  return new BrokerError("TIMEOUT", "the caller's time was up before everything was read");
}

/** What a part of a Fetch answer counts for. */
export function fetchedBytes({ batches, error }: GroupFetched): number {
  let bytes = error === null ? 0 : FETCH_ERROR_BYTES;
  for (const { records } of batches) bytes += records.length + FETCH_BATCH_OVERHEAD_BYTES;
  return bytes;
}

function noLongerHeld(offset: number, { startOffset, endOffset }: StreamMachine): BrokerError {
  const range = { start_offset: String(startOffset), end_offset: String(endOffset) };
  return new BrokerError("OFFSET_OUT_OF_RANGE", `offset ${offset} is no longer held: the first one is ${startOffset}`, range);
}

function notYetThere(offset: number, { startOffset, endOffset }: StreamMachine): BrokerError {
  const range = { start_offset: String(startOffset), end_offset: String(endOffset) };
  return new BrokerError("OFFSET_OUT_OF_RANGE", `offset ${offset} does not exist yet: the end is ${endOffset}`, range);
}

function failed(error: BrokerError, startOffset = 0, endOffset = 0): GroupFetched {
  return { batches: [], startOffset, endOffset, nextOffset: startOffset, error };
}

function failedOffsets(error: BrokerError): GroupOffsets {
  return { startOffset: 0, endOffset: 0, bytes: 0, committedOffset: -1, metadata: "", timeOffset: -1, cursors: [], error };
}
