// Loaded into a node's process before its own code (NODE_OPTIONS=--import). On SIGUSR2 the next records that the node applies as
// a follower leave its machine in a wrong state: the next offset is one too high, as if memory had lied.

import { StreamMachine } from "../../dist/src/machine/stream/stream.js";

let isDue = false;
process.on("SIGUSR2", () => (isDue = true));

const methods = StreamMachine.prototype;
const original = Reflect.get(methods, "apply");
methods.apply = function (meta, kind, payload, effects) {
  // Who waits for an answer would get a wrong one: that is the leader's, which is not what is looked at here.
  const isFollower = effects.done === null;
  original.call(this, meta, kind, payload, effects);
  if (!isDue || !isFollower) return;
  isDue = false;
  this.endOffset += 1;
};
