// The links between all nodes, as a fault sees them: from whom to whom nothing passes, or slowly. For each ordered pair of
// nodes there is a proxy; each node is told of the others only at the proxies from itself to them.

import { LinkProxy, openFlow, type Flow, type FlowCounts } from "./link-proxy.ts";
import type { DirectedPair } from "./shapes.ts";

export class Network {
  readonly counts: FlowCounts = { heldBytes: 0, slowedBytes: 0, cutConnections: 0 };
  private readonly flows = new Map<string, Flow>();
  private readonly proxies = new Map<string, LinkProxy>();
  private readonly ports = new Map<string, number>();

  /** `peerPort`: where a node listens for the others. */
  static async between(nodes: readonly number[], peerPort: (node: number) => number): Promise<Network> {
    const network = new Network();
    for (const from of nodes)
      for (const to of nodes) {
        if (from === to) continue;
        const name = nameOf(from, to);
        const flows = { forth: network.flow(from, to), back: network.flow(to, from) };
        const proxy = new LinkProxy(peerPort(to), flows, network.counts);
        network.proxies.set(name, proxy);
        network.ports.set(name, await proxy.listen());
      }
    return network;
  }

  /** Where `from` finds `to`. */
  port(from: number, to: number): number {
    return this.ports.get(nameOf(from, to))!;
  }

  /** All that passes from one node to the other, whoever dialled. */
  flow(from: number, to: number): Flow {
    const name = nameOf(from, to);
    let flow = this.flows.get(name);
    if (flow === undefined) this.flows.set(name, (flow = openFlow()));
    return flow;
  }

  /** Nothing passes between these any more; what passes is held back, and goes on later. */
  hold(pairs: readonly DirectedPair[]): void {
    for (const [from, to] of pairs) this.flow(from, to).isHeld = true;
  }

  /** These pass as ever. */
  release(pairs: readonly DirectedPair[]): void {
    for (const [from, to] of pairs) Object.assign(this.flow(from, to), openFlow());
    for (const proxy of this.proxies.values()) proxy.changed();
  }

  slow(pairs: readonly DirectedPair[], how: { readonly delayMs: number; readonly bytesPerSecond: number }): void {
    for (const [from, to] of pairs) Object.assign(this.flow(from, to), how);
  }

  /** Cuts the connections between these; returns how many there were. */
  reset(pairs: readonly DirectedPair[]): number {
    let count = 0;
    for (const [from, to] of pairs) count += this.proxies.get(nameOf(from, to))!.reset();
    return count;
  }

  async close(): Promise<void> {
    await Promise.all([...this.proxies.values()].map((proxy) => proxy.close()));
  }
}

function nameOf(from: number, to: number): string {
  return `${from}>${to}`;
}
