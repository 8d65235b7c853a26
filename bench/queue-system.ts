// One interface over the systems whose queues are compared. Three real nodes each, queues of three replicas; producers and consumers are
// in this process.

/** Messages that a consumer may hold unsettled. */
export const PREFETCH = 1_000;
/** A message begins with when it was due: a double, milliseconds of this process's clock. */
export const DUE_BYTES = 8;

export type Flood = {
  readonly queues: readonly string[];
  readonly bytes: number;
  readonly isOver: () => boolean;
  /** Called for every confirmed message. */
  readonly acked: () => void;
};
export type Pacing = { readonly queues: readonly string[]; readonly bytes: number; readonly rate: number; readonly seconds: number };
export type Taking = {
  readonly queues: readonly string[];
  readonly taken: (body: Uint8Array) => void;
  /** The queue was told that it is done; where it answers, it has answered. */
  readonly settled: () => void;
};

export interface QueueSystem {
  readonly name: string;
  readonly version: string;
  readonly settings: string;
  readonly pids: readonly number[];
  create(queues: number): Promise<readonly string[]>;
  remove(queues: readonly string[]): Promise<void>;
  /** Publishes to all of them as fast as confirmations come; resolves when all is confirmed. */
  flood(flood: Flood): Promise<void>;
  /** Publishes so many a second to all of them together, whether or not confirmations come; resolves when all is confirmed. */
  pace(pacing: Pacing): Promise<void>;
  /** One consumer for each, which acknowledges whatever it takes. Returns what ends them. */
  take(taking: Taking): Promise<() => Promise<void>>;
  stop(): Promise<void>;
}

/** Publishes by the clock: `send(at, dueMs)` for the `at`-th message. */
export async function byTheClock({ rate, seconds }: Pacing, send: (at: number, dueMs: number) => void): Promise<void> {
  const startMs = performance.now();
  const total = Math.floor(rate * seconds);
  for (let sent = 0; sent < total;) {
    const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1_000) * rate));
    for (; sent < due; sent++) send(sent, startMs + (sent / rate) * 1_000);
    // Looking all the time would take a core from those that are measured.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A body of its own, with when it was due. */
export function dueBody(template: Buffer, dueMs: number): Buffer {
  const body = Buffer.from(template);
  body.writeDoubleLE(dueMs, 0);
  return body;
}

export function dueOf(body: Uint8Array): number {
  return new DataView(body.buffer, body.byteOffset, DUE_BYTES).getFloat64(0, true);
}
