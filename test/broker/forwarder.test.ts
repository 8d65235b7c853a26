import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { Forwarder, type Serve } from "../../src/broker/forwarder.ts";

const [ASKS, SERVES] = [1, 2] as [NodeId, NodeId];
const OPERATION = 9;

type Reply = Parameters<Serve>[2];

test("forwarder: an answer to what was asked over a link that is gone is no answer to anything asked since", () => {
  const replies: Reply[] = [];
  const operations = new Map<number, Serve>([[OPERATION, (_from, _body, reply) => void replies.push(reply)]]);
  const serves: Forwarder = new Forwarder({
    send: (_to, parts) => {
      asks.onFrame(SERVES, Buffer.concat(parts));
      return true;
    },
    operations,
    notices: new Map(),
  });
  const make = (): Forwarder =>
    new Forwarder({
      send: (_to, parts) => {
        serves.onFrame(ASKS, Buffer.concat(parts));
        return true;
      },
      operations: new Map(),
      notices: new Map(),
    });
  let asks = make();
  const answers: string[] = [];
  const ask = (): void => void asks.call(SERVES, OPERATION, [], (error, body) => answers.push(error?.code ?? Buffer.from(body).toString()));
  ask();
  // The node that asked starts anew, and counts its questions from the beginning.
  serves.peerDown(ASKS);
  asks = make();
  ask();
  replies[0]!(null, [Buffer.from("of the first life")]);
  expect(answers).toEqual([]);
  replies[1]!(null, [Buffer.from("of the second")]);
  expect(answers).toEqual(["of the second"]);
});
