import { describe, expect, test } from "vitest";
import { jointIndex, jointVote, VOTE_LOST, VOTE_WON } from "../../src/raft/quorum.ts";
import { directivesOf, filesIn, numbers, vectors, type Directive } from "./datadriven.ts";

/** The last line of the expected output; the chart above it is decoration. */
const result = (directive: Directive): string => directive.expected[directive.expected.length - 1]!;

function configurations({ args }: Directive): { voters: number[]; outgoing: number[]; order: number[] } {
  const voters = numbers(args.get("cfg"));
  const joint = args.get("cfgj");
  const outgoing = joint === undefined || joint[0] === "zero" ? [] : numbers(joint);
  // Values are given in the order in which the members are named, each once.
  return { voters, outgoing, order: [...new Set([...voters, ...outgoing])] };
}

function committed(directive: Directive): string {
  const { voters, outgoing, order } = configurations(directive);
  const values = directive.args.get("idx") ?? [];
  const indexes = new Map(order.map((peer, at) => [peer, values[at] === "_" || values[at] === undefined ? 0 : Number(values[at])]));
  const index = jointIndex(voters, outgoing, (peer) => indexes.get(peer)!);
  return index === Number.POSITIVE_INFINITY ? "∞" : String(index);
}

function vote(directive: Directive): string {
  const { voters, outgoing, order } = configurations(directive);
  const values = directive.args.get("votes") ?? [];
  const votes = new Map(order.map((peer, at) => [peer, values[at] === "y" ? true : values[at] === "n" ? false : undefined]));
  const outcome = jointVote(voters, outgoing, (peer) => votes.get(peer));
  return outcome === VOTE_WON ? "VoteWon" : outcome === VOTE_LOST ? "VoteLost" : "VotePending";
}

describe.skipIf(vectors === undefined)("vectors: quorum", () => {
  test.each(filesIn("quorum"))("%s", (file) => {
    const directives = directivesOf("quorum", file);
    expect(directives.length).toBeGreaterThan(5);
    for (const directive of directives) {
      const actual = directive.command === "committed" ? committed(directive) : vote(directive);
      // "∞" follows a description of the empty quorum on the same line.
      expect(
        result(directive).endsWith(actual) && (actual === "∞" || result(directive) === actual),
        `line ${directive.line}: ${result(directive)} expected, not ${actual}`,
      ).toBe(true);
    }
  });
});
