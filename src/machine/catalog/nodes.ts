// The nodes of the cluster and the lives of their replicas. A replica id is never given out twice: a disk that was lost or
// damaged comes back under another one, so that no vote or acknowledgement of the old can count for the new.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import type { NodeId } from "../../base/ids.ts";
import { CATALOG_CONFLICT, CATALOG_OK, CATALOG_STORE_MISMATCH, CATALOG_UNKNOWN_NODE } from "./codes.ts";
import { type DrainNode, type ForgetNode, type JoinNode, type NodeRegistration } from "./commands.ts";
import { DONE, refuse, type Outcome } from "./outcome.ts";
import { readNode, readNodeId, writeNode, type NodeRow } from "./rows.ts";

/** Of a node that was forgotten, should its number come back: the life of its next replica, and the incarnation of its next start. */
type Forgotten = { readonly nextLife: number; readonly nextIncarnation: number };

export class NodeTable {
  private rows = new Map<NodeId, NodeRow>();
  private forgotten = new Map<NodeId, Forgotten>();

  get size(): number {
    return this.rows.size;
  }

  get(id: NodeId): NodeRow | undefined {
    return this.rows.get(id);
  }

  wasForgotten(id: NodeId): boolean {
    return this.forgotten.has(id);
  }

  /** Ascending by id. */
  all(): NodeRow[] {
    return [...this.rows.values()].sort((a, b) => a.id - b.id);
  }

  register(node: NodeRegistration): Outcome {
    const known = this.rows.get(node.id);
    if (known === undefined && this.forgotten.has(node.id))
      return refuse(CATALOG_STORE_MISMATCH, `node ${node.id} was forgotten; it can come back with an empty data directory`);
    if (known !== undefined && known.storeId !== node.storeId)
      return refuse(CATALOG_STORE_MISMATCH, `node ${node.id} has joined with store ${known.storeId}, not ${node.storeId}`);
    if (known !== undefined && node.incarnation < known.incarnation)
      return refuse(CATALOG_CONFLICT, "a later start of this node is registered already", known.incarnation);
    this.rows.set(node.id, { catalogLife: 0, nextLife: 1, drained: false, ...known, ...node });
    return DONE;
  }

  /** `replaced`: the node came with another disk, so every replica that it held needs a successor of the life in `value`. */
  join({ node, lostLife }: JoinNode): Outcome & { readonly replaced: boolean } {
    const known = this.rows.get(node.id);
    const replaced = known !== undefined && known.storeId !== node.storeId;
    if (known !== undefined && !replaced && known.catalogLife !== lostLife) {
      this.rows.set(node.id, { ...known, ...node, incarnation: Math.max(known.incarnation, node.incarnation) });
      return { code: CATALOG_OK, detail: "", value: known.catalogLife, replaced };
    }
    const forgotten = this.forgotten.get(node.id);
    const life = known?.nextLife ?? forgotten?.nextLife ?? 1;
    this.forgotten.delete(node.id);
    // An emptied directory counts its starts anew, and none of them may pass for one that was before.
    const next = known === undefined ? (forgotten?.nextIncarnation ?? 0) : known.incarnation + (replaced ? 1 : 0);
    const incarnation = Math.max(node.incarnation, next);
    this.rows.set(node.id, { drained: false, ...known, ...node, incarnation, catalogLife: life, nextLife: life + 1 });
    return { code: CATALOG_OK, detail: "", value: life, replaced };
  }

  drain({ node, drained }: DrainNode): Outcome {
    const known = this.rows.get(node);
    if (known === undefined) return unknownNode(node);
    this.rows.set(node, { ...known, drained });
    return DONE;
  }

  forget({ node, storeId }: ForgetNode): Outcome {
    const known = this.rows.get(node);
    if (known === undefined) return unknownNode(node);
    if (known.storeId !== storeId) return refuse(CATALOG_CONFLICT, `node ${node} is back, with another disk than the one to be forgotten`);
    if (this.rows.size === 1) return refuse(CATALOG_CONFLICT, "the last node of a cluster cannot be forgotten");
    this.rows.delete(node);
    this.forgotten.set(node, { nextLife: known.nextLife, nextIncarnation: known.incarnation + 1 });
    return DONE;
  }

  /** The life of a replica that is about to be made on a known node. */
  takeLife(node: NodeId): number {
    const row = this.rows.get(node)!;
    this.rows.set(node, { ...row, nextLife: row.nextLife + 1 });
    return row.nextLife;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.rows.size);
    for (const row of this.all()) writeNode(writer, row);
    const forgotten = [...this.forgotten].sort(([a], [b]) => a - b);
    writer.varint(forgotten.length);
    for (const [node, { nextLife, nextIncarnation }] of forgotten) writer.varint(node).varint(nextLife).varint(nextIncarnation);
  }

  static read(reader: ByteReader): NodeTable {
    const table = new NodeTable();
    for (let count = reader.varint(); count > 0; count--) {
      const row = readNode(reader);
      table.rows.set(row.id, row);
    }
    for (let count = reader.varint(); count > 0; count--)
      table.forgotten.set(readNodeId(reader), { nextLife: reader.varint(), nextIncarnation: reader.varint() });
    return table;
  }
}

export function unknownNode(node: NodeId): Outcome {
  return refuse(CATALOG_UNKNOWN_NODE, `node ${node} is not registered`);
}
