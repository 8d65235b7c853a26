// Everything that can be done to a cluster, by family.

import type { FaultKind } from "../fault.ts";
import { BIT_FAULTS } from "./bits.ts";
import { CLOCK_FAULTS } from "./clocks.ts";
import { DISK_FAULTS } from "./disks.ts";
import { FILE_FAULTS } from "./files.ts";
import { LINK_FAULTS } from "./links.ts";
import { ORDER_FAULTS } from "./orders.ts";
import { PROCESS_FAULTS } from "./processes.ts";

export const FAMILIES: Readonly<Record<string, readonly FaultKind[]>> = {
  processes: PROCESS_FAULTS,
  links: LINK_FAULTS,
  disks: DISK_FAULTS,
  files: FILE_FAULTS,
  clocks: CLOCK_FAULTS,
  orders: ORDER_FAULTS,
};

export const FAULTS: readonly FaultKind[] = Object.values(FAMILIES).flat();

/** A family that has to be asked for: what it does is a part of what others do, and it takes its time over each kind of file. */
export const EXTRA_FAMILIES: Readonly<Record<string, readonly FaultKind[]>> = { bits: BIT_FAULTS };

/** Commands of a user are a family of their own. */
export function familyOf(name: string): string {
  const families = Object.entries({ ...FAMILIES, ...EXTRA_FAMILIES });
  return families.find(([, kinds]) => kinds.some((kind) => kind.name === name))?.[0] ?? "commands";
}
