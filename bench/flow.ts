// So many bytes through a topic, as fast as acknowledgements come.

import type { Flotilla } from "../src/client/index.ts";
import { payload } from "./system.ts";

const RECORD_BYTES = 1024;
const BUFFER_BYTES = 24 * 1024 * 1024;

export async function publishBytes(
  client: Flotilla,
  topic: string,
  options: { readonly bytes: number; readonly batchBytes: number; readonly acked: (bytes: number) => void },
): Promise<void> {
  const producer = await client.producer(topic, { lingerMs: 1, batchBytes: options.batchBytes, bufferBytesMax: BUFFER_BYTES });
  const record = { body: payload(RECORD_BYTES) };
  let failure: Error | null = null;
  let done = 0;
  const settled = (error: Error | null): void => {
    if (error !== null) failure = error;
    else options.acked((done += RECORD_BYTES));
  };
  for (let sent = 0; sent < options.bytes && failure === null;) {
    for (let count = 0; count < 200 && sent < options.bytes; count++, sent += RECORD_BYTES)
      if (!producer.append(record, settled)) await producer.ready();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await producer.close();
  if (failure !== null) throw failure;
}
