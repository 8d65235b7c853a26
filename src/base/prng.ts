/** A source of chance. The product seeds it from the operating system, a simulator from its seed. */
export interface Random {
  /** An integer of 0..bound-1; `bound` is 1..2^32. */
  below(bound: number): number;
}

/** xoshiro128** (Blackman and Vigna, 2018) over four 32-bit words: integers only, so it is the same on every machine. */
export class Prng implements Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  /** `seed` is any 32-bit integer; splitmix32 spreads it over the state. */
  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    };
    this.a = next();
    this.b = next();
    this.c = next();
    this.d = next() | 1;
  }

  below(bound: number): number {
    // Multiply-shift over 32 bits: the bias is below 2^-32 * bound, which no use of ours can see.
    return Math.floor((this.nextUint32() / 4_294_967_296) * bound);
  }

  nextUint32(): number {
    const product = Math.imul(this.b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const t = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= t;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result;
  }
}
