import { assert, isCount } from "./assert.ts";

// Distinct types for numbers that must not be mixed up. They cost nothing at run time.
declare const brand: unique symbol;

/** A node's number, 1..1023, fixed for the life of its data directory. */
export type NodeId = number & { readonly [brand]: "NodeId" };
/** A Raft group's number, 0..2^32-1. 0 is the catalog. Never reused, so it is the group's incarnation as well. */
export type GroupId = number & { readonly [brand]: "GroupId" };
/**
 * A member of one group: `life * 1024 + node`. A replica whose disk was lost comes back under the next life, so a
 * vote or an ack of the old one can never count for the new one (research: "replica identity is never reused").
 */
export type ReplicaId = number & { readonly [brand]: "ReplicaId" };
/** The position of a record in a stream: 0, 1, 2 ... without gaps. */
export type Offset = number & { readonly [brand]: "Offset" };

export const NODE_ID_MAX = 1023;
export const GROUP_ID_MAX = 0xffff_ffff;
export const CATALOG_GROUP = 0 as GroupId;

export function toNodeId(value: number): NodeId {
  assert(Number.isInteger(value) && value >= 1 && value <= NODE_ID_MAX, `node id ${value} is outside 1..${NODE_ID_MAX}`);
  return value as NodeId;
}

export function toGroupId(value: number): GroupId {
  assert(Number.isInteger(value) && value >= 0 && value <= GROUP_ID_MAX, `group id ${value} is outside 0..2^32-1`);
  return value as GroupId;
}

export function toOffset(value: number): Offset {
  assert(isCount(value), `offset ${value} is not a safe integer of at least 0`);
  return value as Offset;
}

export function replicaId(node: NodeId, life: number): ReplicaId {
  assert(Number.isInteger(life) && life >= 0 && life < 1 << 20, `replica life ${life} is outside 0..2^20-1`);
  return (life * (NODE_ID_MAX + 1) + node) as ReplicaId;
}

export function nodeOfReplica(replica: ReplicaId): NodeId {
  return (replica % (NODE_ID_MAX + 1)) as NodeId;
}

export function lifeOfReplica(replica: ReplicaId): number {
  return Math.floor(replica / (NODE_ID_MAX + 1));
}

/** A start of a node, as consumers that are connected there know it: `incarnation` is the node's. */
export function gatewayOf(node: NodeId, incarnation: number): number {
  const gateway = incarnation * (NODE_ID_MAX + 1) + node;
  assert(isCount(gateway), `incarnation ${incarnation} is out of range`);
  return gateway;
}

/** Transactions whose records may hold messages: beyond it there is no id for a holder. */
export const HOLDER_OFFSET_MAX = 2 ** 43 - 2;
const CONSUMER_COUNTERS = 2 ** 23;
const NODES_BY_COUNTER = (NODE_ID_MAX + 1) * CONSUMER_COUNTERS;

/**
 * Who holds messages for a transaction, as a consumer's id. Ids of consumers name their node, and no node has the number 0, so this is never
 * one of theirs.
 */
export function holderOf(offset: number): number {
  assert(isCount(offset) && offset <= HOLDER_OFFSET_MAX, `transaction ${offset} has no holder`);
  const number = offset + 1;
  return Math.floor(number / CONSUMER_COUNTERS) * NODES_BY_COUNTER + (number % CONSUMER_COUNTERS);
}

export function nodeOfGateway(gateway: number): NodeId {
  return (gateway % (NODE_ID_MAX + 1)) as NodeId;
}
