// What a segment holds, as a list of operations in the order of the file: written into its footer and into the store when
// it is sealed, and replayed at the start, so that only the newest segment has to be read.

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import { RECORD_DESTROY, RECORD_ENTRY, RECORD_MOVED, RECORD_RESET, RECORD_STATE } from "./segment-format.ts";

export type StateOperation = {
  readonly type: typeof RECORD_STATE | typeof RECORD_RESET;
  readonly group: number;
  /** Whose log this is: the replica of the group that this node holds. */
  readonly replica: number;
  readonly term: number;
  readonly vote: number;
  readonly commit: number;
  readonly trimIndex: number;
  readonly trimTerm: number;
  /** Where the group's log ended when this was written: whatever lies beyond, written earlier, is of another time. */
  readonly lastIndex: number;
};

/** Who takes the operations of a segment, live or replayed. */
export interface IndexSink {
  entry(group: number, index: number, term: number, position: number, length: number): void;
  /** A committed entry was written again. */
  moved(group: number, index: number, term: number, position: number, length: number): void;
  state(operation: StateOperation): void;
  destroy(group: number): void;
}

type RunType = typeof RECORD_ENTRY | typeof RECORD_MOVED;
type Run = { type: RunType; group: number; term: number; firstIndex: number; positions: number[]; lengths: number[] };

export class SegmentIndexWriter implements IndexSink {
  private readonly writer = new ByteWriter(4096);
  private run: Run | null = null;

  entry(group: number, index: number, term: number, position: number, length: number): void {
    this.add(RECORD_ENTRY, group, index, term, position, length);
  }

  moved(group: number, index: number, term: number, position: number, length: number): void {
    this.add(RECORD_MOVED, group, index, term, position, length);
  }

  private add(type: RunType, group: number, index: number, term: number, position: number, length: number): void {
    const { run } = this;
    if (run !== null && run.type === type && run.group === group && run.term === term && run.firstIndex + run.positions.length === index) {
      run.positions.push(position);
      run.lengths.push(length);
      return;
    }
    this.flush();
    this.run = { type, group, term, firstIndex: index, positions: [position], lengths: [length] };
  }

  state(operation: StateOperation): void {
    this.flush();
    const { type, group, replica, term, vote, commit, trimIndex, trimTerm, lastIndex } = operation;
    this.writer
      .u8(type)
      .varint(group)
      .varint(replica)
      .varint(term)
      .varint(vote)
      .varint(commit)
      .varint(trimIndex)
      .varint(trimTerm)
      .varint(lastIndex);
  }

  destroy(group: number): void {
    this.flush();
    this.writer.u8(RECORD_DESTROY).varint(group);
  }

  /** The operations as bytes; the writer is then spent. */
  finish(): Uint8Array {
    this.flush();
    return this.writer.finish();
  }

  private flush(): void {
    const { run, writer } = this;
    if (run === null) return;
    this.run = null;
    writer.u8(run.type).varint(run.group).varint(run.term).varint(run.firstIndex).varint(run.positions.length);
    let previous = 0;
    for (let at = 0; at < run.positions.length; at++) {
      writer.varint(run.positions[at]! - previous).varint(run.lengths[at]!);
      previous = run.positions[at]!;
    }
  }
}

/** Throws DecodeError on bytes that this release did not write; they passed their checksum, so that is a newer format. */
export function replayIndex(operations: Uint8Array, sink: IndexSink): void {
  const reader = new ByteReader(operations);
  while (reader.remaining > 0) {
    const type = reader.u8();
    switch (type) {
      case RECORD_ENTRY:
      case RECORD_MOVED: {
        const group = reader.varint();
        const term = reader.varint();
        const firstIndex = reader.varint();
        const count = reader.varint();
        let position = 0;
        for (let at = 0; at < count; at++) {
          position += reader.varint();
          const length = reader.varint();
          if (type === RECORD_ENTRY) sink.entry(group, firstIndex + at, term, position, length);
          else sink.moved(group, firstIndex + at, term, position, length);
        }
        break;
      }
      case RECORD_STATE:
      case RECORD_RESET:
        sink.state({
          type,
          group: reader.varint(),
          replica: reader.varint(),
          term: reader.varint(),
          vote: reader.varint(),
          commit: reader.varint(),
          trimIndex: reader.varint(),
          trimTerm: reader.varint(),
          lastIndex: reader.varint(),
        });
        break;
      case RECORD_DESTROY:
        sink.destroy(reader.varint());
        break;
      default:
        throw new DecodeError(`unknown operation ${type} in a segment's index`);
    }
  }
}
