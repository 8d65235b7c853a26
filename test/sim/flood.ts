// More than a partition may take in at one time: what is too much has to be refused, not kept.

import { Prng } from "../../src/base/prng.ts";
import { Producer, type ClientParts } from "./clients.ts";
import { pick } from "./world.ts";

/** Together well over UNCOMMITTED_BYTES_MAX. */
const PRODUCERS = 48;
const RECORD_BYTES = 980_000;
/** Ids of producers that nobody else has. */
const FIRST_ID = 500;

/** Producers of one large batch each, for one partition at one time. */
export function floodOf(seed: number, partitions: number, clients: ClientParts): { readonly producers: Producer[]; readonly atMs: number } {
  const random = new Prng(seed ^ 0xf100d);
  const partition = pick(
    random,
    Array.from({ length: partitions }, (_, at) => at),
  );
  const producers = Array.from(
    { length: PRODUCERS },
    (_, at) => new Producer(FIRST_ID + at, partition, clients, { thinkMs: 0, bytesMax: RECORD_BYTES, once: true }),
  );
  return { producers, atMs: 1_000 + random.below(8_000) };
}
