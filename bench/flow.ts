// So many records, or bytes, through a topic or queue, as fast as acknowledgements come.

import type { Flotilla, OutgoingRecord } from "../src/client/index.ts";
import { payload } from "./system.ts";

const RECORD_BYTES = 1024;
const BUFFER_BYTES = 24 * 1024 * 1024;
/** Records that are handed over before others have their turn. */
const TURN_RECORDS = 200;

type RecordsFlow = {
  readonly count: number;
  /** The `at`-th, from 0 on; its bytes are copied before the next one is asked for. */
  readonly recordAt: (at: number) => OutgoingRecord;
  readonly batchBytes: number;
  /** Called for each, with how many these are by now. */
  readonly acked: (count: number) => void;
};

export async function publishRecords(client: Flotilla, topic: string, { count, recordAt, batchBytes, acked }: RecordsFlow): Promise<void> {
  const producer = await client.producer(topic, { lingerMs: 1, batchBytes, bufferBytesMax: BUFFER_BYTES });
  let failure: Error | null = null;
  let done = 0;
  const settled = (error: Error | null): void => {
    if (error !== null) failure = error;
    else acked(++done);
  };
  for (let sent = 0; sent < count && failure === null;) {
    for (let turn = 0; turn < TURN_RECORDS && sent < count; turn++, sent++)
      if (!producer.append(recordAt(sent), settled)) await producer.ready();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await producer.close();
  if (failure !== null) throw failure as Error;
}

export async function publishBytes(
  client: Flotilla,
  topic: string,
  options: { readonly bytes: number; readonly batchBytes: number; readonly acked: (bytes: number) => void },
): Promise<void> {
  const { bytes, batchBytes, acked } = options;
  const record = { body: payload(RECORD_BYTES) };
  const count = Math.ceil(bytes / RECORD_BYTES);
  await publishRecords(client, topic, { count, recordAt: () => record, batchBytes, acked: (records) => acked(records * RECORD_BYTES) });
}
