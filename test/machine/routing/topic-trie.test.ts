import fc from "fast-check";
import { expect, test } from "vitest";
import { TopicTrie } from "../../../src/machine/routing/topic-trie.ts";

function matched(trie: TopicTrie, key: string): number[] {
  const found = new Set<number>();
  trie.match(key, found);
  return [...found].sort((a, b) => a - b);
}

/** The rule of the specification, word by word. */
function matches(pattern: readonly string[], words: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return words.length === 0;
  if (first === "#") return matches(rest, words) || (words.length > 0 && matches(pattern, words.slice(1)));
  return words.length > 0 && (first === "*" || first === words[0]) && matches(rest, words.slice(1));
}

const split = (key: string): string[] => (key === "" ? [] : key.split("."));
const keyOf = (words: readonly string[]): string => words.join(".");
const word = fc.constantFrom("a", "b", "c");
const pattern = fc.array(fc.oneof(word, fc.constantFrom("*", "#", "#")), { maxLength: 6 }).map(keyOf);
const key = fc.array(word, { maxLength: 6 }).map(keyOf);

test("topic trie: it matches what the rule says, whatever was bound and unbound", () => {
  fc.assert(
    fc.property(
      fc.array(pattern, { maxLength: 20 }),
      fc.array(fc.nat(19), { maxLength: 10 }),
      fc.array(key, { maxLength: 10 }),
      (patterns, removed, keys) => {
        const trie = new TopicTrie();
        for (const [target, one] of patterns.entries()) trie.add(one, target);
        const gone = new Set(removed.filter((target) => target < patterns.length));
        for (const target of gone) expect(trie.remove(patterns[target]!, target)).toBe(true);
        for (const target of gone) expect(trie.remove(patterns[target]!, target)).toBe(false);
        for (const one of keys)
          expect(matched(trie, one)).toEqual(
            [...patterns.keys()].filter((target) => !gone.has(target) && matches(split(patterns[target]!), split(one))),
          );
      },
    ),
    { numRuns: 500 },
  );
});

test("topic trie: patterns made to be slow are not: each way is gone once", () => {
  const trie = new TopicTrie();
  trie.add(Array.from({ length: 64 }, (_, at) => (at % 2 === 0 ? "#" : "a")).join("."), 1);
  const longest = `${"a.".repeat(126)}b`;
  expect(longest.length).toBeLessThanOrEqual(255);
  expect(matched(trie, longest)).toEqual([]);
  expect(matched(trie, "a.".repeat(126) + "a")).toEqual([1]);
});
