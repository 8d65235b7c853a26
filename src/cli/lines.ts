import { BATCH_BYTES_MAX } from "../base/limits.ts";
import { FlotillaError } from "../client/index.ts";

/** Bytes of one line; a record cannot be larger (BATCH_TOO_LARGE). */
const LINE_BYTES_MAX = BATCH_BYTES_MAX;

/**
 * Cuts a stream of chunks into lines without their ends; a last line without an end counts, an empty one in between too.
 * The lines share the memory of their chunks.
 */
export async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  let lines = 0;
  // The beginning of a line whose end has not come yet, in pieces: joined once.
  let pieces: Buffer[] = [];
  let pieceBytes = 0;
  for await (const chunk of chunks) {
    const found: Buffer[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const line = chunk.subarray(start, end);
      found.push(pieceBytes === 0 ? line : Buffer.concat([...pieces, line]));
      if (pieceBytes > 0) {
        pieces = [];
        pieceBytes = 0;
      }
      start = end + 1;
    }
    if (start < chunk.length) {
      pieces.push(chunk.subarray(start));
      pieceBytes += chunk.length - start;
    }
    lines += found.length;
    if (found.length > 0) yield found;
    if (pieceBytes > LINE_BYTES_MAX) {
      throw new FlotillaError("BATCH_TOO_LARGE", `line ${lines + 1} of the input is longer than ${LINE_BYTES_MAX} bytes`);
    }
  }
  if (pieceBytes > 0) yield [Buffer.concat(pieces)];
}
