// One interface over the systems that are compared. Each runs as three real processes on loopback with its data in a
// folder of its own; the load generator is this process.

export const UNBATCHED_INFLIGHT = 1_000;

/** Where a measurement publishes to: partitions of a topic, queues, or streams. */
export type Target = { readonly name: string; readonly partitions: number };

export type PublishRequest = {
  readonly target: Target;
  readonly bytes: number;
  readonly seconds: number;
  /** Every message a request of its own, UNBATCHED_INFLIGHT of them under way. */
  readonly unbatched?: boolean;
  /** Called for every acknowledged message. */
  readonly acked: (count: number) => void;
  /** Ends it before the time is up. */
  readonly stopped?: () => boolean;
};

export interface System {
  readonly name: string;
  readonly version: string;
  /** What was set, in words, for the table. */
  readonly settings: string;
  readonly pids: readonly number[];
  createTarget(partitions: number): Promise<Target>;
  deleteTarget(target: Target): Promise<void>;
  /** Publishes as fast as confirmations come, for the given time; resolves when all is confirmed. */
  publish(request: PublishRequest): Promise<void>;
  /** One message at a time; resolves with the latencies in ms. */
  sequential(request: { target: Target; bytes: number; seconds: number }): Promise<number[]>;
  /**
   * Publishes `rate` messages a second, whether or not confirmations come; resolves with the latencies in ms, counted from
   * when each was due. Undefined: not offered.
   */
  paced?(request: { target: Target; bytes: number; rate: number; seconds: number }): Promise<number[]>;
  /** Begins to look where the time of acknowledgements goes; what is returned tells, in words. Undefined: not offered. */
  observe?(target: Target): Promise<() => Promise<string>>;
  /** Reads everything in the target from the beginning; resolves with messages and payload bytes. Undefined: not offered. */
  replay?(target: Target): Promise<{ messages: number; bytes: number }>;
  stop(): Promise<void>;
}

/** Data that does not compress to nothing, the same for every system. */
export function payload(bytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(bytes);
  let state = 0x2545_f491;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    buffer[at] = state >>> 24;
  }
  return buffer;
}
