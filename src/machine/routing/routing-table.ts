// Where a message goes that is published to an exchange: a pure function of what is declared. Made from the catalog's rows on
// every node, and changed with them; a publish asks it and changes nothing.

import { bindingsOf, type Bindings, type ExchangeType, type Routed } from "./exchange.ts";
import type { HeadersBinding } from "./headers-match.ts";

/** The default exchange of a vhost: every queue is bound to it by its own name, and nothing else can be (AMQP 0-9-1, 3.1.3.1). */
export const DEFAULT_EXCHANGE = "";

export type ExchangeSpec = {
  readonly name: string;
  readonly type: ExchangeType;
  /** Gets what this one cannot route; "" = nothing does. */
  readonly alternate: string;
};

export type BindingSpec = {
  readonly source: string;
  readonly destination: string;
  readonly destinationKind: "queue" | "exchange";
  readonly key: string;
  readonly headers: HeadersBinding;
};

/** Why a queue gets a message: the bindings that led there, from the exchange that was published to. */
export type Way = { readonly queue: string; readonly exchanges: readonly string[] };

type Exchange = { readonly spec: ExchangeSpec; readonly bindings: Bindings; count: number };
type Target = { readonly kind: "queue" | "exchange"; readonly name: string };

/** The exchanges and bindings of one vhost. */
export class RoutingTable {
  private readonly exchanges = new Map<string, Exchange>();
  private readonly queues = new Set<string>();
  private headersBindings = 0;
  /** Queues and exchanges as bindings name them; a number stays with its name. */
  private readonly targets: Target[] = [];
  private readonly numbers = { queue: new Map<string, number>(), exchange: new Map<string, number>() };

  addQueue(name: string): void {
    this.queues.add(name);
  }

  removeQueue(name: string): void {
    this.queues.delete(name);
  }

  addExchange(spec: ExchangeSpec): void {
    const known = this.exchanges.get(spec.name);
    this.exchanges.set(spec.name, known === undefined ? { spec, bindings: bindingsOf(spec.type), count: 0 } : { ...known, spec });
  }

  removeExchange(name: string): void {
    this.exchanges.delete(name);
  }

  /** Some exchange looks at headers: who publishes has to bring them. */
  get looksAtHeaders(): boolean {
    return this.headersBindings > 0;
  }

  hasExchange(name: string): boolean {
    return name === DEFAULT_EXCHANGE || this.exchanges.has(name);
  }

  bind(binding: BindingSpec): void {
    const exchange = this.exchanges.get(binding.source);
    if (exchange === undefined) return;
    exchange.bindings.add(this.bindingOf(binding));
    exchange.count += 1;
    if (exchange.spec.type === "headers") this.headersBindings += 1;
  }

  unbind(binding: BindingSpec): void {
    const exchange = this.exchanges.get(binding.source);
    if (exchange === undefined) return;
    exchange.bindings.remove(this.bindingOf(binding));
    exchange.count -= 1;
    if (exchange.spec.type === "headers") this.headersBindings -= 1;
  }

  /**
   * The queues that get the message, each once, by name; none when it is unroutable; undefined when there is no such exchange.
   * Exchanges may be bound in a circle: each is asked once.
   */
  route(exchange: string, message: Routed): string[] | undefined {
    const ways = this.ways(exchange, message);
    return ways?.map(({ queue }) => queue);
  }

  /** The same, and how each queue was come to. */
  ways(exchange: string, message: Routed): Way[] | undefined {
    if (exchange === DEFAULT_EXCHANGE) return this.queues.has(message.key) ? [{ queue: message.key, exchanges: [""] }] : [];
    if (!this.exchanges.has(exchange)) return undefined;
    const ways = new Map<string, Way>();
    const asked = new Set<string>([exchange]);
    const waiting: (readonly string[])[] = [[exchange]];
    for (let at = 0; at < waiting.length; at++) {
      const way = waiting[at]!;
      for (const target of this.targetsOf(way[way.length - 1]!, message)) {
        if (target.kind === "queue") {
          if (this.queues.has(target.name) && !ways.has(target.name)) ways.set(target.name, { queue: target.name, exchanges: way });
        } else if (this.exchanges.has(target.name) && !asked.has(target.name)) {
          asked.add(target.name);
          waiting.push([...way, target.name]);
        }
      }
    }
    return [...ways.values()].sort((a, b) => (a.queue < b.queue ? -1 : 1));
  }

  /** What the exchange's own bindings say, or else its alternate. */
  private targetsOf(name: string, message: Routed): Target[] {
    const { bindings, spec } = this.exchanges.get(name)!;
    const found = new Set<number>();
    bindings.route(message, found);
    if (found.size === 0 && spec.alternate !== "") return [{ kind: "exchange", name: spec.alternate }];
    return [...found].map((number) => this.targets[number]!);
  }

  private bindingOf({ destination, destinationKind, key, headers }: BindingSpec): { target: number; key: string; headers: HeadersBinding } {
    const numbers = this.numbers[destinationKind];
    let target = numbers.get(destination);
    if (target === undefined) {
      target = this.targets.push({ kind: destinationKind, name: destination }) - 1;
      numbers.set(destination, target);
    }
    return { target, key, headers };
  }
}
