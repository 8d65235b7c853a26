// How many bytes the messages of a subscription have that are not settled. Kept only where a bound asks for it: of the messages of one
// batch each counts for its share.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { NOWHERE, RunMap } from "./run-map.ts";

export class Sizes {
  private sizes = new RunMap(1);
  private bytes = 0;

  /** Bytes of all messages that were added and not forgotten. */
  get total(): number {
    return this.bytes;
  }

  /** Of a message that is in here; 0 otherwise. */
  of(offset: number): number {
    return this.sizes.get(offset, 0, 0);
  }

  add(from: number, end: number, bytesEach: number): void {
    this.sizes.assign(from, end, bytesEach);
    this.bytes += (end - from) * bytesEach;
  }

  forget(from: number, end: number): void {
    const { sizes } = this;
    if (sizes.size === 0) return;
    for (let place = sizes.next(from); place !== NOWHERE && sizes.from(place) < end; place = sizes.next(from)) {
      const [first, last] = [Math.max(from, sizes.from(place)), Math.min(end, sizes.end(place))];
      this.bytes -= (last - first) * sizes.value(place, 0);
      sizes.clear(first, last);
    }
  }

  write(writer: ByteWriter): void {
    this.sizes.write(writer);
  }

  static read(reader: ByteReader): Sizes {
    const sizes = new Sizes();
    sizes.sizes = RunMap.read(1, reader);
    const map = sizes.sizes;
    for (let place = map.next(0); place !== NOWHERE; place = map.next(map.end(place)))
      sizes.bytes += (map.end(place) - map.from(place)) * map.value(place, 0);
    return sizes;
  }
}
