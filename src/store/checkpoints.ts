// States of machines at points of their logs. A checkpoint is its head and the pieces that the head counts; the head is
// written in the same batch, and the whole has a checksum, so a half one is never read.

import { crc32 } from "node:zlib";
import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import type { GroupId } from "../base/ids.ts";
import { CHECKPOINT_WRITE_BYTES_MAX } from "../base/limits.ts";
import type { Configuration } from "../raft/types.ts";
import { checkpointDataKey, checkpointIndexOf, checkpointKey, checkpointsOf } from "./keys.ts";
import { StoreCorruptError, type Kv, type KvOperation } from "./kv.ts";

const FORMAT = 1;
const CHUNK_BYTES = 64 * 1024;

export type StoredCheckpoint = {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
  readonly machineVersion: number;
  readonly timeMs: number;
  /** Of what was applied up to here (replica/digest.ts); null when an earlier release made the checkpoint. */
  readonly digest: { readonly origin: number; readonly a: number; readonly b: number } | null;
  readonly snapshot: Uint8Array;
};

type Head = Omit<StoredCheckpoint, "snapshot"> & { readonly bytes: number; readonly crc: number };

type Save = { readonly operations: readonly KvOperation[]; readonly bytes: number; readonly done: (error: Error | null) => void };
/** Of a head, roughly, with its keys. */
const HEAD_BYTES = 128;
/** Groups whose rows go with one write. */
const DELETES_PER_WRITE = 512;

export class Checkpoints {
  private readonly kv: Kv;
  private saves: Save[] = [];
  /** The writes under way; null = none. */
  private saving: Promise<void> | null = null;
  /** What was begun last with the rows of a group, as long as it is under way; none rejects. */
  private readonly underWay = new Map<GroupId, Promise<void>>();

  constructor(kv: Kv) {
    this.kv = kv;
  }

  /**
   * Durable when it resolves: the log may be cut at it. What is saved while a write is under way shares the next one, so that
   * many groups at one time cost few syncs.
   */
  save(group: GroupId, checkpoint: StoredCheckpoint): Promise<void> {
    return this.inTurn([group], () => this.saveNow(group, checkpoint));
  }

  /**
   * What is done with a group's rows is done one after the other: a removal first asks which rows there are, and must not take
   * what a successor of the replica has saved meanwhile. Saves of other groups do not wait.
   */
  private inTurn(groups: readonly GroupId[], work: () => Promise<void>): Promise<void> {
    const before = groups.flatMap((group) => this.underWay.get(group) ?? []);
    const done = before.length === 0 ? work() : Promise.all(before).then(work);
    const ended = done
      .catch(() => {})
      .then(() => {
        for (const group of groups) if (this.underWay.get(group) === ended) this.underWay.delete(group);
      });
    for (const group of groups) this.underWay.set(group, ended);
    return done;
  }

  private saveNow(group: GroupId, checkpoint: StoredCheckpoint): Promise<void> {
    const { snapshot } = checkpoint;
    const operations: KvOperation[] = [];
    for (let chunk = 0; chunk * CHUNK_BYTES < snapshot.length; chunk++) {
      operations.push({
        put: [checkpointDataKey(group, checkpoint.index, chunk), snapshot.subarray(chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES)],
      });
    }
    operations.push({
      put: [checkpointKey(group, checkpoint.index), encodeHead({ ...checkpoint, bytes: snapshot.length, crc: crc32(snapshot) })],
    });
    return new Promise((resolve, reject) => {
      this.saves.push({ operations, bytes: snapshot.length, done: (error) => (error === null ? resolve() : reject(error)) });
      this.saving ??= this.saveAll();
    });
  }

  /** One write after the other, each with as much as waits and fits. */
  private async saveAll(): Promise<void> {
    while (this.saves.length > 0) {
      let bytes = 0;
      let count = 0;
      while (count < this.saves.length && bytes < CHECKPOINT_WRITE_BYTES_MAX) bytes += this.saves[count++]!.bytes + HEAD_BYTES;
      const saves = this.saves.splice(0, count);
      let failure: Error | null = null;
      try {
        await this.kv.batch(
          saves.flatMap(({ operations }) => operations),
          { sync: true },
        );
      } catch (error) {
        failure = error as Error;
      }
      for (const { done } of saves) done(failure);
    }
    this.saving = null;
  }

  async list(group: GroupId): Promise<readonly number[]> {
    return (await this.kv.keys(checkpointsOf(group))).map(checkpointIndexOf);
  }

  /** Undefined when it is missing or damaged. */
  async read(group: GroupId, index: number): Promise<StoredCheckpoint | undefined> {
    try {
      const stored = await this.kv.get(checkpointKey(group, index));
      if (stored === undefined) return undefined;
      const { bytes, crc, ...head } = decodeHead(stored, index);
      const snapshot = new Uint8Array(bytes);
      for (let chunk = 0; chunk * CHUNK_BYTES < bytes; chunk++) {
        const piece = await this.kv.get(checkpointDataKey(group, index, chunk));
        if (piece === undefined || chunk * CHUNK_BYTES + piece.length > bytes) return undefined;
        snapshot.set(piece, chunk * CHUNK_BYTES);
      }
      return crc32(snapshot) === crc ? { ...head, snapshot } : undefined;
    } catch (error) {
      if (error instanceof StoreCorruptError || error instanceof DecodeError) return undefined;
      throw error;
    }
  }

  deleteBelow(group: GroupId, index: number): Promise<void> {
    return this.inTurn([group], async () => this.kv.batch(await this.removals(group, (at) => at < index), { sync: false }));
  }

  delete(group: GroupId, indexes: ReadonlySet<number>): Promise<void> {
    return this.inTurn([group], async () => this.kv.batch(await this.removals(group, (at) => indexes.has(at)), { sync: false }));
  }

  deleteGroups(groups: readonly GroupId[]): Promise<void> {
    return this.inTurn(groups, async () => {
      for (let at = 0; at < groups.length; at += DELETES_PER_WRITE) {
        const removals: KvOperation[] = [];
        for (const group of groups.slice(at, at + DELETES_PER_WRITE)) removals.push(...(await this.removals(group, () => true)));
        await this.kv.batch(removals, { sync: false });
      }
    });
  }

  private async removals(group: GroupId, isDead: (index: number) => boolean): Promise<KvOperation[]> {
    const operations: KvOperation[] = [];
    for (const index of await this.list(group)) {
      if (!isDead(index)) continue;
      operations.push({ remove: checkpointKey(group, index) });
      const data = checkpointDataKey(group, index, 0).subarray(0, 13);
      for (const key of await this.kv.keys(data)) operations.push({ remove: key });
    }
    return operations;
  }
}

function encodeHead(head: Head): Uint8Array {
  const writer = new ByteWriter(128).u8(FORMAT).u64(head.term).u32(head.machineVersion).u64(head.timeMs).u32(head.bytes).u32(head.crc);
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = head.configuration;
  for (const list of [voters, votersOutgoing, learners, learnersNext]) {
    writer.varint(list.length);
    for (const peer of list) writer.varint(peer);
  }
  writer.u8(autoLeave ? 1 : 0);
  // Earlier releases do not look beyond.
  if (head.digest !== null) writer.u64(head.digest.origin).u32(head.digest.a).u32(head.digest.b);
  return writer.finish();
}

function decodeHead(bytes: Uint8Array, index: number): Head {
  const reader = new ByteReader(bytes);
  const format = reader.u8();
  if (format !== FORMAT) throw new Error(`a checkpoint has format ${format}, this release knows ${FORMAT}: start the newer release again`);
  const term = reader.u64();
  const machineVersion = reader.u32();
  const timeMs = reader.u64();
  const size = reader.u32();
  const crc = reader.u32();
  const list = (): number[] => Array.from({ length: reader.varint() }, () => reader.varint());
  const configuration = { voters: list(), votersOutgoing: list(), learners: list(), learnersNext: list(), autoLeave: reader.u8() === 1 };
  const digest = reader.remaining === 0 ? null : { origin: reader.u64(), a: reader.u32(), b: reader.u32() };
  return { index, term, machineVersion, timeMs, configuration, digest, bytes: size, crc };
}
