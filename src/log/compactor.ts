// Gives files back that are mostly dead: what still counts in them is written again at the end of the log, as committed
// entries that replace nothing, and the file goes when its last entry has another place. So no pinned record, idle group
// or straggler holds more than itself.

import type { GroupId } from "../base/ids.ts";
import type { Entry } from "../raft/types.ts";
import type { PlacedEntry } from "./group-log.ts";
import type { GroupTable } from "./group-table.ts";
import { isDamage } from "./errors.ts";
import type { Segment } from "./segment.ts";
import type { SegmentReader } from "./segment-reader.ts";
import type { LogWatcher } from "./types.ts";

/** A file of which less than this part is live is mostly dead, and may be rewritten. */
const LIVE_RATIO = 0.5;
/** Seconds after which a mostly dead file, in which nothing died meanwhile, is emptied: it would not go by itself. */
const CALM_SECONDS = 5;
/**
 * Files' worth of dead bytes in mostly dead files beyond which nobody waits for that. Below it what retention trims goes for
 * nothing, one file after the other.
 */
const DEAD_FILES_MAX = 1;
/** Payload bytes, and entries, that one append takes along. */
const MOVE_BYTES = 1024 * 1024;
const MOVE_ENTRIES = 4_096;

export type Move = { readonly group: GroupId; readonly from: PlacedEntry; readonly entry: Entry };

export type CompactorComponents = {
  readonly table: GroupTable;
  readonly segments: readonly Segment[];
  readonly segmentBytes: number;
  readonly reader: SegmentReader;
  readonly watcher: () => LogWatcher;
};

export class Compactor {
  private readonly components: CompactorComponents;
  /** Read, and waiting for an append. */
  private ready: Move[] = [];
  private reading = false;
  /** Files that cannot be emptied for now, until more is committed or trimmed. */
  private readonly stuck = new Set<number>();
  bytesMoved = 0;

  constructor(components: CompactorComponents) {
    this.components = components;
  }

  /** There is something for the next append. */
  get hasMoves(): boolean {
    return this.ready.length > 0;
  }

  /** What the next append is to write again. */
  take(): Move[] {
    const moves = this.ready;
    this.ready = [];
    return moves;
  }

  /** Without those that a trim, a deletion or another life of the group overtook: asked right before the write. */
  current(moves: readonly Move[]): Move[] {
    return moves.filter(({ group, from }) => this.isCurrent(group, from));
  }

  /** The moved entries are written: they lie there from now on, unless a trim overtook them. */
  place(moves: readonly { readonly move: Move; readonly position: number }[], segment: number): void {
    for (const { move, position } of moves) {
      const { group, from, entry } = move;
      if (!this.isCurrent(group, from)) continue;
      this.components.table.groups.get(group)!.move(from.index, from.term, segment, position, from.length);
      this.bytesMoved += entry.payload.length;
    }
  }

  /** There is something to prepare. Cheap: asked with every tick. */
  get isWanted(): boolean {
    return !this.reading && !this.hasMoves && this.victim() !== undefined;
  }

  /** Reads what is next to be moved, if anything is worth it. */
  async prepare(): Promise<void> {
    if (this.reading || this.hasMoves) return;
    const victim = this.victim();
    if (victim === undefined) return;
    this.reading = true;
    try {
      await this.collect(victim);
      if (!this.hasMoves) this.stuck.add(victim.number);
    } finally {
      this.reading = false;
    }
  }

  /** A second went by: more may be committed or trimmed, so every file may be looked at again. */
  secondPassed(): void {
    this.stuck.clear();
    for (const segment of this.components.segments) {
      const { bytes } = this.components.table.useOf(segment.number);
      segment.calmSeconds = bytes === segment.calmBytes ? segment.calmSeconds + 1 : 0;
      segment.calmBytes = bytes;
    }
  }

  private isCurrent(group: GroupId, from: PlacedEntry): boolean {
    const place = this.components.table.groups.get(group)?.find(from.index);
    return place !== undefined && place.segment === from.segment && place.position === from.position;
  }

  /** The mostly dead file with the smallest live part: a calm one, or any when there are too many. */
  private victim(): Segment | undefined {
    const { segments, table, segmentBytes } = this.components;
    const live = ({ number }: Segment): number => table.useOf(number).bytes;
    let dead = 0;
    let best: Segment | undefined;
    let calm: Segment | undefined;
    for (const segment of segments) {
      if (!segment.isSealed || this.stuck.has(segment.number)) continue;
      if (segment.mustEmpty) return segment;
      const bytes = live(segment);
      if (bytes >= LIVE_RATIO * segmentBytes) continue;
      dead += segmentBytes - bytes;
      if (best === undefined || bytes < live(best)) best = segment;
      if (segment.calmSeconds >= CALM_SECONDS && (calm === undefined || bytes < live(calm))) calm = segment;
    }
    if (dead > DEAD_FILES_MAX * segmentBytes) return best;
    // Once begun it is not calm any more, and yet it goes on.
    if (calm !== undefined) calm.mustEmpty = true;
    return calm;
  }

  private async collect({ number }: Segment): Promise<void> {
    const { table, watcher } = this.components;
    let bytes = 0;
    for (const [group, state] of table.groups) {
      if (bytes >= MOVE_BYTES || this.ready.length >= MOVE_ENTRIES) return;
      // What is damaged comes back from the other nodes, not from here.
      if (state.damage !== null) continue;
      // What is not committed may yet be replaced: only the rest can be moved.
      const committed = watcher().committedOf(group);
      const places = state.placesIn(number, MOVE_ENTRIES - this.ready.length).filter(({ index }) => index <= committed);
      for (let at = 0; at < places.length && bytes < MOVE_BYTES;) {
        const entries = await this.read(group, places.slice(at));
        if (entries === null) break;
        for (const entry of entries) {
          this.ready.push({ group, from: places[at++]!, entry });
          bytes += entry.payload.length;
        }
      }
    }
  }

  /** Null when they cannot be read: trimmed meanwhile, or damaged. */
  private async read(group: GroupId, places: readonly PlacedEntry[]): Promise<readonly Entry[] | null> {
    try {
      return await this.components.reader.readSome(group, places, MOVE_BYTES);
    } catch (error) {
      if (isDamage(error as Error) && this.isCurrent(group, places[0]!)) this.components.watcher().damaged(group, (error as Error).message);
      return null;
    }
  }
}
