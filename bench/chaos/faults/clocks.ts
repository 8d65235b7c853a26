// Wall clocks that jump. Monotonic clocks do not: no machine moves them.

import { setTimeout as delay } from "node:timers/promises";
import { pick, seconds, type Draw, type FaultKind, type Strike } from "../fault.ts";

/** The library looks at its file once a second. */
const NOTICE_MS = 1_200;
const JUMPS_SECONDS = [-4_233_600, -3_600, -90, -5, 5, 90, 3_600, 4_233_600];
/** What is shorter than its resolution proves nothing. */
const SEEN_MS_MIN = 2_000;

function jumping(draw: Draw): Strike {
  const { random, nodes } = draw;
  const isAll = random.below(3) === 0;
  const first = pick(random, nodes);
  const jumps = new Map((isAll ? nodes : [first]).map((node) => [node, pick(random, JUMPS_SECONDS)]));
  return {
    seconds: seconds(draw, 2, 5),
    begin: ({ cluster }) => {
      for (const [node, jump] of jumps) cluster.moveClock(node, signed(jump));
      return Promise.resolve([...jumps].map(([node, jump]) => `node ${node} by ${signed(jump)} s`).join(", "));
    },
    end: async ({ cluster }) => {
      await delay(NOTICE_MS);
      const seen = new Map<number, number>();
      for (const node of jumps.keys()) seen.set(node, await cluster.clockOffsetMs(node).catch(() => 0));
      for (const node of jumps.keys()) cluster.moveClock(node, "+0");
      await delay(NOTICE_MS);
      const text = [...seen].map(([node, ms]) => `node ${node}'s clock was ${(ms / 1_000).toFixed(0)} s off`).join(", ");
      return { bit: [...seen.values()].some((ms) => Math.abs(ms) >= SEEN_MS_MIN), proof: text };
    },
  };
}

function signed(seconds_: number): string {
  return seconds_ < 0 ? String(seconds_) : `+${seconds_}`;
}

export const CLOCK_FAULTS: readonly FaultKind[] = [
  { name: "clock", what: "wall clocks jump by seconds to weeks, and back", needs: ["faketime"], mixes: true, draw: jumping },
];
