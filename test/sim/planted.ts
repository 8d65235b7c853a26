// Bugs planted on purpose, to measure the simulator: each takes one promise away by swapping a method of the product's classes
// in this process. Nothing in the product knows of it. `within` is what is promised: a bug that is not found in so many seeds
// means that the simulator has become blind to its kind. It is some eight times what such a bug takes on average, as every change of
// the product makes other runs.
//
// Not planted, as no fault here could tell: a shorter lease or no pre-vote (nodes without a majority of links do not stand at all, so
// no term is ever raised in vain), and messages for another life (whoever sends one is not a member any more, and is not counted).

import { PLANTED_FIRST } from "./planted/first.ts";
import { PLANTED_MACHINES } from "./planted/machines.ts";
import { PLANTED_NODE } from "./planted/node.ts";
import { PLANTED_QUEUES } from "./planted/queues.ts";
import { PLANTED_RAFT } from "./planted/raft.ts";
import { PLANTED_STORAGE } from "./planted/storage.ts";
import { PLANTED_TRANSACTIONS } from "./planted/transactions.ts";
import type { Planted } from "./planted/swap.ts";

export const PLANTED: readonly Planted[] = [
  ...PLANTED_FIRST,
  ...PLANTED_RAFT,
  ...PLANTED_STORAGE,
  ...PLANTED_MACHINES,
  ...PLANTED_QUEUES,
  ...PLANTED_TRANSACTIONS,
  ...PLANTED_NODE,
];
