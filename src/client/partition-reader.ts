import type { FetchFrom } from "./wire.ts";

/** Where a consumer is in one partition. */
export class PartitionReader {
  readonly partition: number;
  /** What is fetched next. */
  from: FetchFrom;
  /** One past the last record handed out; -1 until it is known where reading begins. */
  position = -1;
  /** Like `position`, but only up to what the reader came back from: what an automatic commit may tell. */
  processed = -1;
  /** The partition's end at the last answer. */
  endOffset = 0;
  /** Raised by a seek: what was fetched before it is dropped. */
  generation = 0;
  /** A fetch is under way; never two of them, or records would be handed out twice. */
  isFetching = false;
  /** The reader went elsewhere on purpose: the next commit may go back. */
  wasMoved = false;

  constructor(partition: number, from: FetchFrom) {
    this.partition = partition;
    this.from = from;
    this.moveTo(from);
    this.generation = 0;
  }

  /** Goes on elsewhere. */
  moveTo(from: FetchFrom): void {
    this.from = from;
    this.position = typeof from === "object" && "offset" in from ? from.offset : -1;
    this.processed = this.position;
    this.generation += 1;
  }
}
