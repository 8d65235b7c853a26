import { expect, test } from "vitest";
import { toGroupId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { Damages } from "../../src/broker/damages.ts";
import { Disks } from "../../src/broker/disks.ts";
import { Leaders } from "../../src/broker/leaders.ts";
import { News, type NewsComponents } from "../../src/broker/news.ts";
import { Unfit } from "../../src/broker/unfit.ts";
import { TestClock } from "../support/test-clock.ts";

/** Two nodes, each with what it hears from the other; what is damaged and who lags is as the test says. */
function pair(): { readonly one: Told; readonly two: Told } {
  const one = new Told(1 as NodeId);
  const two = new Told(2 as NodeId);
  one.peer = two;
  two.peer = one;
  return { one, two };
}

class Told {
  readonly damaged = new Map<GroupId, { readonly reason: string }>();
  lagging: NodeId[] = [];
  peer!: Told;
  readonly damages = new Damages();
  readonly unfit: Unfit;
  readonly news: News;

  constructor(nodeId: NodeId) {
    this.unfit = new Unfit(nodeId);
    const { damaged } = this;
    const host = {
      quarantine: {
        all: () => damaged.entries(),
        get size() {
          return damaged.size;
        },
      },
      recovery: { nodes: () => this.lagging },
      groups: () => [],
    };
    const components = {
      nodeId,
      host,
      catalog: { nodes: () => [{ id: 1 }, { id: 2 }] },
      transport: { isUp: () => true },
      clock: new TestClock(),
      leaders: new Leaders(),
      unfit: this.unfit,
      disks: new Disks(nodeId),
      damages: this.damages,
      notify: (_to: NodeId, notice: number, body: Uint8Array) => this.peer.news.heard.get(notice)!(nodeId, body),
    };
    this.news = new News(components as unknown as NewsComponents);
  }
}

test("what a peer is told when it comes up is taken back when it is over", () => {
  const { one, two } = pair();
  one.damaged.set(toGroupId(5), { reason: "a bit" });
  one.lagging = [3 as NodeId];
  one.news.peerUp(2 as NodeId);
  expect(two.damages.all()).toEqual([{ node: 1, group: 5, reason: "a bit" }]);
  expect(two.unfit.isBehind(3 as NodeId)).toBe(true);
  one.damaged.clear();
  one.lagging = [];
  one.news.damages();
  one.news.laggards();
  expect(two.damages.all()).toEqual([]);
  expect(two.unfit.isBehind(3 as NodeId)).toBe(false);
});
