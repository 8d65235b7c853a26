// Which replicas tick, and when they stop. A group at rest sends nothing and costs nothing; any message, proposal or change
// of a node's liveness wakes it.

import type { Message } from "../raft/types.ts";
import type { Elections } from "./elections.ts";
import type { Replica } from "./replica.ts";
import { isRestingPoint, restMessages } from "./rest.ts";

export type PulseComponents = {
  readonly elections: Elections;
  readonly isUp: (peer: number) => boolean;
  readonly post: (replica: Replica, message: Message) => void;
  /** The core of `replica` has news to collect. */
  readonly news: (replica: Replica) => void;
  /** It stopped ticking, and may have given up what it had cached. */
  readonly slept: () => void;
  /** A tick of a group that is led here. */
  readonly led: (replica: Replica) => void;
};

export class Pulse {
  private readonly settings: { readonly restTicks: number };
  private readonly components: PulseComponents;
  /** Invariant: those of which `awake` is set. */
  private readonly awake = new Set<Replica>();

  constructor(settings: { readonly restTicks: number }, components: PulseComponents) {
    this.settings = settings;
    this.components = components;
  }

  wake(replica: Replica): void {
    if (replica.awake || replica.closed) return;
    replica.awake = true;
    this.awake.add(replica);
  }

  sleep(replica: Replica): void {
    replica.awake = false;
    this.awake.delete(replica);
    replica.slimDown();
    this.components.slept();
  }

  tick(): void {
    for (const replica of this.awake) this.tickOne(replica);
  }

  private tickOne(replica: Replica): void {
    const { elections, news } = this.components;
    const { raft } = replica;
    if (raft.leader === 0) {
      // Nobody can be elected now: the node that is missing wakes the group when it is back.
      if (!elections.canBeWon(replica)) {
        this.sleep(replica);
        return;
      }
      if (!elections.mayTick(replica)) return;
    }
    const { leader } = raft;
    raft.tick();
    if (raft.leader === 0) elections.ticked(replica);
    // A leader without a majority steps down and has nothing to say; but who waits for it has to be told.
    if (raft.hasReady() || raft.leader !== leader) news(replica);
    if (!replica.isLeader) return;
    this.components.led(replica);
    this.considerRest(replica);
  }

  private considerRest(replica: Replica): void {
    const { isUp, post } = this.components;
    if (!isRestingPoint(replica, isUp)) {
      replica.idleTicks = 0;
      return;
    }
    replica.idleTicks += 1;
    // What this very tick has to say (a heartbeat) would wake the others again.
    if (replica.idleTicks < this.settings.restTicks || replica.raft.hasReady()) return;
    for (const message of restMessages(replica, isUp)) post(replica, message);
    this.sleep(replica);
  }
}
