// The bindings of a topic exchange, word by word, so that a key is matched against all of them in one walk. `*` stands for one
// word, `#` for any number of them, none included (AMQP 0-9-1, section 3.1.3.3).

class Node {
  readonly words = new Map<string, Node>();
  star: Node | null = null;
  hash: Node | null = null;
  /** How many bindings each target has here; most nodes have none. */
  targets: Map<number, number> | null = null;
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }

  get isEmpty(): boolean {
    return this.words.size === 0 && this.star === null && this.hash === null && this.targets === null;
  }
}

export class TopicTrie {
  private readonly root = new Node(0);
  private nextId = 1;
  /** Patterns with more than one `#`: only those can come to one node by several ways. */
  private manyHashes = 0;

  /** A target may be bound by a pattern any number of times, and is then to be removed as often. */
  add(pattern: string, target: number): void {
    const words = wordsOf(pattern);
    if (hasManyHashes(words)) this.manyHashes += 1;
    let node = this.root;
    for (const word of words) node = this.childOf(node, word);
    node.targets ??= new Map();
    node.targets.set(target, (node.targets.get(target) ?? 0) + 1);
  }

  /** False when there was no such binding. */
  remove(pattern: string, target: number): boolean {
    const words = wordsOf(pattern);
    const path: Node[] = [this.root];
    for (const word of words) {
      const next = existing(path[path.length - 1]!, word);
      if (next === undefined) return false;
      path.push(next);
    }
    const { targets } = path[path.length - 1]!;
    const count = targets?.get(target);
    if (targets === null || count === undefined) return false;
    if (count > 1) targets.set(target, count - 1);
    else targets.delete(target);
    if (targets.size === 0) path[path.length - 1]!.targets = null;
    if (hasManyHashes(words)) this.manyHashes -= 1;
    for (let depth = words.length; depth > 0 && path[depth]!.isEmpty; depth--) detach(path[depth - 1]!, words[depth - 1]!);
    return true;
  }

  /** Adds the targets of all patterns that match the key. Costs what lies on the ways that match, however many patterns there are. */
  match(key: string, found: Set<number>): void {
    const words = wordsOf(key);
    this.walk(this.root, words, 0, found, this.manyHashes > 0 ? new Set() : null);
  }

  private walk(node: Node, words: readonly string[], at: number, found: Set<number>, seen: Set<number> | null): void {
    if (node.hash !== null) {
      // It stands for this many of the words that are left, and for all of them.
      for (let next = at; next <= words.length; next++) {
        if (seen !== null) {
          const state = node.hash.id * (words.length + 1) + next;
          if (seen.has(state)) continue;
          seen.add(state);
        }
        this.walk(node.hash, words, next, found, seen);
      }
    }
    if (at === words.length) {
      if (node.targets !== null) for (const target of node.targets.keys()) found.add(target);
      return;
    }
    const child = node.words.get(words[at]!);
    if (child !== undefined) this.walk(child, words, at + 1, found, seen);
    if (node.star !== null) this.walk(node.star, words, at + 1, found, seen);
  }

  private childOf(node: Node, word: string): Node {
    if (word === "*") return (node.star ??= new Node(this.nextId++));
    if (word === "#") return (node.hash ??= new Node(this.nextId++));
    let child = node.words.get(word);
    if (child === undefined) node.words.set(word, (child = new Node(this.nextId++)));
    return child;
  }
}

/** The empty key is no word at all. */
function wordsOf(key: string): string[] {
  return key === "" ? [] : key.split(".");
}

function hasManyHashes(words: readonly string[]): boolean {
  return words.indexOf("#") !== words.lastIndexOf("#");
}

function existing(node: Node, word: string): Node | undefined {
  if (word === "*") return node.star ?? undefined;
  if (word === "#") return node.hash ?? undefined;
  return node.words.get(word);
}

function detach(node: Node, word: string): void {
  if (word === "*") node.star = null;
  else if (word === "#") node.hash = null;
  else node.words.delete(word);
}
