// Damage to what is durable: done only where the atlas says that enough is left, or, in the hopeless mode, to a majority.

import { Prng, type Random } from "../../src/base/prng.ts";
import { decodeFileHeader } from "../../src/log/segment-format.ts";
import type { Action } from "./actions.ts";
import { Atlas, placeOf, scopeOfFile, type Place, type Scope } from "./atlas.ts";
import { PAGE_BYTES, type Inode } from "./sim-inode.ts";
import { DATA_DIR, type SimMachine } from "./sim-node.ts";
import { pick } from "./world.ts";

/** Places that are tried before a fault is given up. */
const TRIES = 12;

export type Spot = { readonly path: string; readonly inode: Inode; readonly page: number; readonly position: number } & Place;
type Note = (what: string, fields: object) => void;

export class Damage {
  readonly atlas: Atlas;
  private readonly machines: readonly SimMachine[];
  private readonly note: Note;

  constructor(machines: readonly SimMachine[], note: Note) {
    this.machines = machines;
    this.atlas = new Atlas(machines);
    this.note = note;
  }

  /** False when there is nothing that may be damaged: on the node of the action, or on those that are damaged already. */
  strike(action: Action): boolean {
    const random = new Prng(action.roll);
    const machine = this.machines[action.node - 1]!;
    return [machine, ...this.atlas.damaged].some((one) => {
      if (!this.strikeAt(one, action, random)) return false;
      if (action.how === "restart") one.crash("kill");
      return true;
    });
  }

  /** The whole node may be lost for a while or for good: is that allowed now? */
  takeAll(machine: SimMachine, isThere: () => boolean): boolean {
    if (!this.atlas.allows(machine, "all")) return false;
    this.atlas.note(machine, "all", isThere);
    return true;
  }

  /** It gets another, empty disk; false when the cluster could not bring back what is on it. */
  wipe(machine: SimMachine): boolean {
    if (!this.atlas.allows(machine, "all")) return false;
    machine.crash("power");
    machine.disk.wipe();
    this.atlas.wiped(machine);
    this.atlas.note(machine, "all", () => false);
    return true;
  }

  private strikeAt(machine: SimMachine, { fault, how }: Action, random: Random): boolean {
    switch (fault) {
      case "wipe":
        return this.wipe(machine);
      case "bitrot":
        return this.atSpot(
          machine,
          random,
          (spot) => flip(spot, random),
          ({ scope }) => scope,
        );
      case "badsector":
        return this.atSpot(machine, random, ({ inode, page }) => makeUnreadable(inode, page), scopeOfSpotFile);
      case "misdirect":
        return this.atSpot(machine, random, (spot) => misdirect(spot, how, random), scopeOfSpotFile);
      case "cutfile":
        return this.atSpot(machine, random, ({ inode, page }) => cutOff(inode, page), scopeOfSpotFile);
      default:
        return this.strikeStore(machine, fault, random);
    }
  }

  private strikeStore(machine: SimMachine, fault: Action["fault"], random: Random): boolean {
    const store = machine.disk.stores.get(`${DATA_DIR}/store`);
    if (store === undefined || !this.atlas.allows(machine, "all")) return false;
    if (fault === "kvhole") {
      machine.crash("kill");
      if (store.makeHole(random) === 0) return false;
    } else if (fault === "kvrot") {
      if (!store.rot(random)) return false;
    } else store.damage = "a block of a table is damaged";
    this.atlas.note(machine, "all", () => machine.disk.stores.get(`${DATA_DIR}/store`) === store);
    return true;
  }

  /** `carryOut` returns the way to tell whether the damage is there still; null when nothing could be done. */
  private atSpot(
    machine: SimMachine,
    random: Random,
    carryOut: (spot: Spot) => (() => boolean) | null,
    scopeOf: (spot: Spot) => Scope,
  ): boolean {
    for (let tries = 0; tries < TRIES; tries++) {
      const spot = findSpot(machine, random);
      if (spot === null) continue;
      const scope = scopeOf(spot);
      if (!this.atlas.allows(machine, scope)) continue;
      const isThere = carryOut(spot);
      if (isThere === null) continue;
      this.atlas.note(machine, scope, () => isThere() && isInUse(machine, spot.inode));
      this.note("damage", { node: machine.id, path: spot.path, position: spot.position, scope });
      return true;
    }
    return false;
  }
}

/** A byte that was written and is durable, of any file of a node. */
export function findSpot(machine: SimMachine, random: Random, wanted: (spot: Spot) => boolean = () => true): Spot | null {
  const paths = [...machine.disk.names].filter(([path, inode]) => isWritten(inode) && !path.includes("/lost-")).sort(byName);
  if (paths.length === 0) return null;
  const [path, inode] = pick(random, paths);
  if (!inode.isQuiet) return null;
  const page = pick(random, inode.pageNumbers);
  const bytes = inode.pages.get(page)!;
  let used = bytes.length;
  while (used > 0 && bytes[used - 1] === 0) used -= 1;
  if (used === 0) return null;
  const position = page * PAGE_BYTES + random.below(used);
  const spot = { path, inode, page, position, ...placeOf(path, inode, position) };
  return wanted(spot) ? spot : null;
}

/** Files that were made ready hold nothing but a header. */
function isWritten({ pages }: Inode): boolean {
  return pages.size > 1 || (pages.has(0) && decodeFileHeader(pages.get(0)!)?.firstSequence !== 0);
}

/** One bit. */
export function flip({ inode, page, position }: Spot, random: Random): () => boolean {
  const bytes = Uint8Array.from(inode.pages.get(page)!);
  const at = position % PAGE_BYTES;
  bytes[at]! ^= 1 << random.below(8);
  const wrong = bytes[at]!;
  inode.replace(page, bytes);
  return () => inode.pages.get(page)?.[at] === wrong;
}

/**
 * A write of an earlier time that the drive put somewhere else: there it is not, and what is elsewhere in the file it has
 * destroyed. `nowhere`: it never came to the platter at all; `copy`: it came to both.
 */
function misdirect({ inode, page }: Spot, how: string, random: Random): (() => boolean) | null {
  const bytes = Uint8Array.from(inode.pages.get(page)!);
  const others = inode.pageNumbers.filter((other) => other !== page);
  if (how !== "nowhere" && others.length === 0) return null;
  if (how !== "copy") inode.replace(page, null);
  if (how !== "nowhere") inode.replace(pick(random, others), bytes);
  return () => true;
}

function isInUse(machine: SimMachine, inode: Inode): boolean {
  for (const [path, one] of machine.disk.names) if (one === inode) return !path.includes("/lost-");
  return false;
}

function cutOff(inode: Inode, page: number): () => boolean {
  const position = page * PAGE_BYTES;
  const before = inode.read(position, PAGE_BYTES);
  inode.truncate(position);
  inode.settle();
  // The process writes on where it was, and leaves a hole, though it may write the last blocks again.
  return () => !isSameStart(inode.read(position, PAGE_BYTES), before);
}

function isSameStart(bytes: Uint8Array, start: Uint8Array): boolean {
  return bytes.length >= start.length && start.every((byte, at) => byte === bytes[at]);
}

function makeUnreadable(inode: Inode, page: number): () => boolean {
  inode.unreadable.add(page);
  return () => inode.unreadable.has(page);
}

function scopeOfSpotFile({ path }: Spot): Scope {
  return scopeOfFile(path);
}

function byName([a]: readonly [string, Inode], [b]: readonly [string, Inode]): number {
  return a < b ? -1 : 1;
}
