// Everything that can be done to a cluster, by family.

import type { FaultKind } from "../fault.ts";
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

/** Commands of a user are a family of their own. */
export function familyOf(name: string): string {
  return Object.keys(FAMILIES).find((family) => FAMILIES[family]!.some((kind) => kind.name === name)) ?? "commands";
}
