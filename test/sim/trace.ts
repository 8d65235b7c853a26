// What happened, as a hash over all of it and the newest part in words.

const KEPT = 200;

type Line = { atUs: number; who: string; kind: string; a: number; b: number };

export class Trace {
  private low = 0x811c_9dc5;
  private high = 0x1234_5678;
  private readonly lines: readonly Line[] = Array.from({ length: KEPT }, () => ({ atUs: 0, who: "", kind: "", a: 0, b: 0 }));
  private readonly names = new Map<string, number>();
  private at = 0;

  /** `a` and `b` are what the event was about: a checksum of bytes, a length, an outcome. */
  note(atUs: number, who: string, kind: string, a: number, b: number): void {
    this.mix(atUs >>> 0);
    this.mix(this.hashOf(who));
    this.mix(this.hashOf(kind));
    this.mix(a >>> 0);
    this.mix(b >>> 0);
    const line = this.lines[this.at]!;
    line.atUs = atUs;
    line.who = who;
    line.kind = kind;
    line.a = a;
    line.b = b;
    this.at = (this.at + 1) % KEPT;
  }

  get hash(): string {
    return (this.high >>> 0).toString(16).padStart(8, "0") + (this.low >>> 0).toString(16).padStart(8, "0");
  }

  /** The newest events, oldest first. */
  newest(): string[] {
    const ordered = [...this.lines.slice(this.at), ...this.lines.slice(0, this.at)];
    return ordered
      .filter(({ who }) => who !== "")
      .map(
        ({ atUs, who, kind, a, b }) =>
          `${(atUs / 1_000).toFixed(3).padStart(12)} ms  ${who.padEnd(10)} ${kind}${a === 0 && b === 0 ? "" : ` ${a} ${b}`}`,
      );
  }

  private mix(value: number): void {
    this.low = Math.imul(this.low ^ value, 0x0100_0193);
    this.high = Math.imul((this.high ^ (value >>> 15) ^ this.low) + 0x9e37_79b9, 0x85eb_ca6b);
  }

  /** Names are few: each is hashed once. */
  private hashOf(name: string): number {
    let hash = this.names.get(name);
    if (hash === undefined) {
      hash = 0x811c_9dc5;
      for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x0100_0193);
      this.names.set(name, hash);
    }
    return hash;
  }
}
