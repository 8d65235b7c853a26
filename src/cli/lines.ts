/** Cuts a stream of chunks into lines without their ends; a last line without an end counts, an empty one in between too. */
export async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  let rest: Buffer | null = null;
  for await (const chunk of chunks) {
    const data: Buffer = rest === null ? chunk : Buffer.concat([rest, chunk]);
    const lines: Buffer[] = [];
    let start = 0;
    for (let end = data.indexOf(10, start); end >= 0; end = data.indexOf(10, start)) {
      lines.push(data.subarray(start, end));
      start = end + 1;
    }
    rest = start < data.length ? data.subarray(start) : null;
    if (lines.length > 0) yield lines;
  }
  if (rest !== null) yield [rest];
}
