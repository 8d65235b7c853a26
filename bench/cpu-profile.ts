// What V8's profiler says a process did, by the parts that people can change: our layers, gRPC, HTTP/2, garbage, native.

export type CpuProfile = {
  readonly nodes: readonly { readonly id: number; readonly callFrame: { readonly functionName: string; readonly url: string } }[];
  /** Of the monotonic clock, in microseconds. */
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
};

/** Microseconds by part, of the samples taken in [fromUs, toUs) of the monotonic clock. */
export function timeByPart(profile: CpuProfile, fromUs: number, toUs: number): Map<string, number> {
  const parts = new Map<number, string>();
  for (const { id, callFrame } of profile.nodes) parts.set(id, partOf(callFrame.functionName, callFrame.url));
  const times = new Map<string, number>();
  let at = profile.startTime;
  for (let sample = 0; sample < profile.samples.length; sample++) {
    const deltaUs = profile.timeDeltas[sample] ?? 0;
    at += deltaUs;
    const part = parts.get(profile.samples[sample]!)!;
    if (at < fromUs || at >= toUs || part === "idle" || deltaUs < 0) continue;
    times.set(part, (times.get(part) ?? 0) + deltaUs);
  }
  return times;
}

function partOf(name: string, url: string): string {
  if (name === "(idle)") return "idle";
  if (name === "(garbage collector)") return "garbage collection, main thread";
  if (name === "(program)" || name === "(root)") return "native: sockets, HTTP/2 framing, event loop";
  const layer = /\/src\/([a-z]+)\/[a-z/-]+\.[jt]s$/.exec(url);
  if (layer !== null && !url.includes("node_modules")) return `flotilla ${layer[1]!}`;
  if (url.includes("/bench/")) return "the load generator";
  if (url.includes("@grpc/grpc-js")) return "grpc-js";
  if (url.startsWith("node:internal/http2")) return "node:http2";
  if (url.startsWith("node:")) return "node: streams, timers, files";
  if (name === "write" || name === "writev" || name === "writeBuffer" || name === "writeUtf8String")
    return "native: sockets, HTTP/2 framing, event loop";
  return "other";
}
