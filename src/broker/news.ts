// What the nodes tell each other unasked: which groups they took over, how fit they are to lead, whom they bring up to date
// what their disks hold and what of theirs is damaged. News may be lost; a node that comes up is told everything again.

import type { Clock } from "../base/clock.ts";
import type { GroupId, NodeId } from "../base/ids.ts";
import { NOTICE_GROUPS_MAX } from "../base/limits.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { PeerTransport } from "../peer/transport.ts";
import type { Fitness } from "../replica/fitness.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { decodeDamages, encodeDamages, toTell, type Damages } from "./damages.ts";
import { decodeDiskUse, encodeDiskUse, type Disks } from "./disks.ts";
import { decodeLeading, encodeLeading, type Leaders } from "./leaders.ts";
import type { DiskUse } from "./types.ts";
import { NOTICE_WORK } from "./work/gateway.ts";
import { decodeFitness, decodeLaggards, encodeFitness, encodeLaggards, type Unfit } from "./unfit.ts";

const NOTICE_LEADING = 1;
const NOTICE_FITNESS = 2;
const NOTICE_LAGGARDS = 3;
const NOTICE_DISK = 4;
const NOTICE_DAMAGES = 5;
const NOTICE_LEADERLESS = 6;

type Led = { readonly group: GroupId; readonly term: number };

export type NewsComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly leaders: Leaders;
  readonly unfit: Unfit;
  readonly disks: Disks;
  readonly damages: Damages;
  readonly notify: (to: NodeId, notice: number, body: Uint8Array) => void;
  /** Messages went to consumers that are connected here. */
  readonly work: (from: NodeId, body: Uint8Array) => void;
};

export class News {
  /** By the kind of notice: what is heard from the others. */
  readonly heard: ReadonlyMap<number, (from: NodeId, body: Uint8Array) => void>;
  private readonly components: NewsComponents;
  /** Led here since the last notice to the other nodes, and led here before it but not any more. */
  private led: Led[] = [];
  private lost: Led[] = [];

  constructor(components: NewsComponents) {
    this.components = components;
    const { unfit, disks, damages } = components;
    this.heard = new Map([
      [NOTICE_LEADING, (from, body) => this.heardLeading(from, body)],
      [NOTICE_LEADERLESS, (from, body) => this.heardLeaderless(from, body)],
      [NOTICE_DISK, (from, body) => disks.heard(from, decodeDiskUse(body))],
      [NOTICE_FITNESS, (from, body) => unfit.set(from, decodeFitness(body))],
      [NOTICE_DAMAGES, (from, body) => void damages.set(from, decodeDamages(body))],
      [NOTICE_WORK, (from, body) => components.work(from, body)],
      [NOTICE_LAGGARDS, (from, body) => void unfit.lagging(from, decodeLaggards(body))],
    ]);
  }

  /** This node leads the group. */
  leads(group: GroupId, term: number): void {
    // Elections come in crowds: what one turn brings is told with one notice.
    if (this.led.push({ group, term }) === 1) this.components.clock.defer(() => this.tellLed());
  }

  /** This node led the group until this term, and knows of no other leader: nodes without a replica hear it from nobody else. */
  leadsNoMore(group: GroupId, term: number): void {
    if (this.lost.push({ group, term }) === 1) this.components.clock.defer(() => this.tellLost());
  }

  fitness(fitness: Fitness): void {
    this.components.unfit.set(this.components.nodeId, fitness);
    this.tellAll(NOTICE_FITNESS, encodeFitness(fitness));
  }

  /** Of the nodes that are brought up to date from here, if others than before: all leave the leaders where they are. */
  laggards(): void {
    const { host, nodeId, unfit } = this.components;
    const lagging = host.recovery.nodes();
    if (unfit.lagging(nodeId, lagging)) this.tellAll(NOTICE_LAGGARDS, encodeLaggards(lagging));
  }

  /** Of this node's replicas that are out of service, if others than before. */
  damages(): void {
    const { host, nodeId, damages } = this.components;
    const own = toTell(host.quarantine.all());
    if (damages.set(nodeId, own)) this.tellAll(NOTICE_DAMAGES, encodeDamages(own));
  }

  /** This node looked at its disk: the others are told every few seconds. */
  disk(use: DiskUse): void {
    if (this.components.disks.seen(use, this.components.clock.monotonicMs())) this.tellAll(NOTICE_DISK, encodeDiskUse(use));
  }

  peerUp(peer: NodeId): void {
    const { host, disks, unfit, notify } = this.components;
    // Said to all, and kept: what one peer alone was told nobody would take back.
    this.laggards();
    this.damages();
    const leading: Led[] = [];
    for (const replica of host.groups()) if (replica.isLeader) leading.push({ group: replica.group, term: replica.raft.term });
    this.tell(NOTICE_LEADING, [peer], leading);
    if (disks.own !== undefined) notify(peer, NOTICE_DISK, encodeDiskUse(disks.own));
    if (unfit.own !== "fit") notify(peer, NOTICE_FITNESS, encodeFitness(unfit.own));
    const lagging = host.recovery.nodes();
    if (lagging.length > 0) notify(peer, NOTICE_LAGGARDS, encodeLaggards(lagging));
    if (host.quarantine.size > 0) notify(peer, NOTICE_DAMAGES, encodeDamages(toTell(host.quarantine.all())));
  }

  peerDown(peer: NodeId): void {
    const { leaders, unfit, disks, damages } = this.components;
    damages.forget(peer);
    leaders.nodeLost(peer);
    unfit.forget(peer);
    disks.forget(peer);
  }

  private tellAll(notice: number, body: Uint8Array): void {
    const { catalog, nodeId, notify } = this.components;
    for (const { id } of catalog.nodes()) if (id !== nodeId) notify(id, notice, body);
  }

  private tellLed(): void {
    const { led } = this;
    this.led = [];
    this.tell(NOTICE_LEADING, this.up(), led);
  }

  private tellLost(): void {
    const { lost } = this;
    this.lost = [];
    this.tell(NOTICE_LEADERLESS, this.up(), lost);
  }

  private up(): NodeId[] {
    const { catalog, nodeId, transport } = this.components;
    return catalog.nodes().flatMap(({ id }) => (id !== nodeId && transport.isUp(id) ? [id] : []));
  }

  private tell(notice: number, nodes: readonly NodeId[], groups: readonly Led[]): void {
    for (let start = 0; start < groups.length; start += NOTICE_GROUPS_MAX) {
      const body = encodeLeading(groups.slice(start, start + NOTICE_GROUPS_MAX));
      for (const node of nodes) this.components.notify(node, notice, body);
    }
  }

  private heardLeading(from: NodeId, body: Uint8Array): void {
    const { catalog, leaders } = this.components;
    for (const { group, term } of decodeLeading(body)) if (catalog.groupState(group) !== "deleted") leaders.set(group, from, term);
  }

  /** Whoever took over since then may have been heard of first. */
  private heardLeaderless(from: NodeId, body: Uint8Array): void {
    const { leaders } = this.components;
    for (const { group, term } of decodeLeading(body)) if (leaders.of(group) === from) leaders.set(group, 0, term);
  }
}
