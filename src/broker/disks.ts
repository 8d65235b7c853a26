// What the nodes' disks hold, as they tell each other every few seconds: for operators, nothing depends on it.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import type { DiskUse, NodeDisk } from "./types.ts";

/** A node tells the others so often. */
const TELL_MS = 5_000;

export class Disks {
  private readonly self: NodeId;
  private readonly nodes = new Map<NodeId, DiskUse>();
  private toldMs = Number.NEGATIVE_INFINITY;

  constructor(self: NodeId) {
    this.self = self;
  }

  /** This node's own, once it has looked. */
  get own(): DiskUse | undefined {
    return this.nodes.get(this.self);
  }

  /** This node looked at its disk; true when it is time to tell the others. */
  seen(use: DiskUse, nowMs: number): boolean {
    this.nodes.set(this.self, use);
    if (nowMs - this.toldMs < TELL_MS) return false;
    this.toldMs = nowMs;
    return true;
  }

  heard(from: NodeId, use: DiskUse): void {
    this.nodes.set(from, use);
  }

  /** A node that is gone says nothing of its disk. */
  forget(node: NodeId): void {
    this.nodes.delete(node);
  }

  all(): NodeDisk[] {
    return [...this.nodes].map(([node, use]) => ({ node, ...use })).sort((a, b) => a.node - b.node);
  }
}

export function encodeDiskUse({ logBytes, liveBytes, freeBytes }: DiskUse): Uint8Array {
  return new ByteWriter(24).u64(logBytes).u64(liveBytes).u64(freeBytes).finish();
}

export function decodeDiskUse(body: Uint8Array): DiskUse {
  const reader = new ByteReader(body);
  return { logBytes: reader.u64(), liveBytes: reader.u64(), freeBytes: reader.u64() };
}
