// One exchange: where a message goes that is published to it. Targets are numbers that the table gives to queues and exchanges.

import { matchesHeaders, type HeaderValue, type HeadersBinding } from "./headers-match.ts";
import { TopicTrie } from "./topic-trie.ts";

export type ExchangeType = "direct" | "fanout" | "topic" | "headers" | "consistentHash";

/** What routing looks at. */
export type Routed = { readonly key: string; readonly headers: ReadonlyMap<string, HeaderValue> };

export type Binding = { readonly target: number; readonly key: string; readonly headers: HeadersBinding };

/** The bindings of an exchange, in the shape that its type is routed by. */
export interface Bindings {
  add(binding: Binding): void;
  remove(binding: Binding): void;
  route(message: Routed, found: Set<number>): void;
}

export function bindingsOf(type: ExchangeType): Bindings {
  switch (type) {
    case "direct":
      return new DirectBindings();
    case "fanout":
      return new FanoutBindings();
    case "topic":
      return new TopicBindings();
    case "headers":
      return new HeadersBindings();
    case "consistentHash":
      return new HashBindings();
  }
}

class DirectBindings implements Bindings {
  private readonly byKey = new Map<string, Map<number, number>>();

  add({ key, target }: Binding): void {
    let targets = this.byKey.get(key);
    if (targets === undefined) this.byKey.set(key, (targets = new Map()));
    targets.set(target, (targets.get(target) ?? 0) + 1);
  }

  remove({ key, target }: Binding): void {
    const targets = this.byKey.get(key);
    if (targets === undefined) return;
    drop(targets, target);
    if (targets.size === 0) this.byKey.delete(key);
  }

  route({ key }: Routed, found: Set<number>): void {
    const targets = this.byKey.get(key);
    if (targets !== undefined) for (const target of targets.keys()) found.add(target);
  }
}

class FanoutBindings implements Bindings {
  private readonly targets = new Map<number, number>();

  add({ target }: Binding): void {
    this.targets.set(target, (this.targets.get(target) ?? 0) + 1);
  }

  remove({ target }: Binding): void {
    drop(this.targets, target);
  }

  route(_message: Routed, found: Set<number>): void {
    for (const target of this.targets.keys()) found.add(target);
  }
}

class TopicBindings implements Bindings {
  private readonly trie = new TopicTrie();

  add({ key, target }: Binding): void {
    this.trie.add(key, target);
  }

  remove({ key, target }: Binding): void {
    this.trie.remove(key, target);
  }

  route({ key }: Routed, found: Set<number>): void {
    this.trie.match(key, found);
  }
}

class HeadersBindings implements Bindings {
  private readonly bindings = new Set<Binding>();

  add(binding: Binding): void {
    this.bindings.add(binding);
  }

  remove({ target, headers }: Binding): void {
    for (const binding of this.bindings)
      if (binding.target === target && isAlike(binding.headers, headers)) {
        this.bindings.delete(binding);
        return;
      }
  }

  route({ headers }: Routed, found: Set<number>): void {
    for (const { target, headers: wanted } of this.bindings) if (matchesHeaders(wanted, headers)) found.add(target);
  }
}

/** Points on a circle for each unit of a binding's weight. */
const POINTS_PER_WEIGHT = 100;
const WEIGHT_MAX = 100;

/** The key of a binding is its weight, 1..100, as in RabbitMQ's exchange of that name. A message goes to one target. */
class HashBindings implements Bindings {
  private points: { readonly at: number; readonly target: number }[] = [];

  add({ target, key }: Binding): void {
    const weight = weightOf(key);
    for (let point = 0; point < weight * POINTS_PER_WEIGHT; point++) this.points.push({ at: hashOf(`${target}/${point}`), target });
    this.points.sort((a, b) => a.at - b.at || a.target - b.target);
  }

  remove({ target }: Binding): void {
    this.points = this.points.filter((point) => point.target !== target);
  }

  route({ key }: Routed, found: Set<number>): void {
    const { points } = this;
    if (points.length === 0) return;
    const at = hashOf(key);
    let low = 0;
    let high = points.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (points[middle]!.at < at) low = middle + 1;
      else high = middle;
    }
    found.add(points[low % points.length]!.target);
  }
}

/** The weight that a binding's key says; 0 when it says none. */
export function weightOf(key: string): number {
  const weight = /^[0-9]{1,3}$/.test(key) ? Number(key) : 0;
  return weight <= WEIGHT_MAX ? weight : 0;
}

/** FNV-1a over UTF-16 units with a last mix: the same on every node and in every release. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function drop(targets: Map<number, number>, target: number): void {
  const count = targets.get(target);
  if (count === undefined) return;
  if (count > 1) targets.set(target, count - 1);
  else targets.delete(target);
}

function isAlike(one: HeadersBinding, other: HeadersBinding): boolean {
  if (one.match !== other.match || one.headers.size !== other.headers.size) return false;
  for (const [name, value] of one.headers) if (!other.headers.has(name) || other.headers.get(name) !== value) return false;
  return true;
}
