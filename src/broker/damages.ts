// Replicas out of service, as the nodes tell each other when that changes: for operators, nothing depends on it.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { toGroupId, type GroupId, type NodeId } from "../base/ids.ts";
import { DAMAGES_TOLD_MAX, ERROR_TEXT_LENGTH_MAX } from "../base/limits.ts";

export type Damage = { readonly group: GroupId; readonly reason: string };

export class Damages {
  /** Of nodes that have any. */
  private readonly nodes = new Map<NodeId, readonly Damage[]>();

  /** What a node says of itself now. False when that is no news. */
  set(node: NodeId, damages: readonly Damage[]): boolean {
    const known = this.nodes.get(node) ?? [];
    if (known.length === damages.length && known.every(({ group, reason }, at) => same(damages[at]!, group, reason))) return false;
    if (damages.length === 0) this.nodes.delete(node);
    else this.nodes.set(node, damages);
    return true;
  }

  /** A node that is gone says nothing. */
  forget(node: NodeId): void {
    this.nodes.delete(node);
  }

  /** By node. */
  all(): (Damage & { readonly node: NodeId })[] {
    const nodes = [...this.nodes].sort(([a], [b]) => a - b);
    return nodes.flatMap(([node, damages]) => damages.map((damage) => ({ node, ...damage })));
  }
}

function same(damage: Damage, group: GroupId, reason: string): boolean {
  return damage.group === group && damage.reason === reason;
}

/** The first of them, each with the beginning of its reason. */
export function toTell(damages: Iterable<readonly [GroupId, { readonly reason: string }]>): Damage[] {
  const told: Damage[] = [];
  for (const [group, { reason }] of damages) {
    if (told.length === DAMAGES_TOLD_MAX) break;
    told.push({ group, reason: reason.slice(0, ERROR_TEXT_LENGTH_MAX) });
  }
  return told;
}

export function encodeDamages(damages: readonly Damage[]): Uint8Array {
  const writer = new ByteWriter(16);
  for (const { group, reason } of damages) writer.u32(group).string(reason);
  return writer.finish();
}

/** Throws DecodeError. */
export function decodeDamages(body: Uint8Array): Damage[] {
  const reader = new ByteReader(body);
  const damages: Damage[] = [];
  while (reader.remaining > 0 && damages.length < DAMAGES_TOLD_MAX)
    damages.push({ group: toGroupId(reader.u32()), reason: reader.string() });
  return damages;
}
