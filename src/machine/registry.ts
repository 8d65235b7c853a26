import { CatalogMachine } from "./catalog/catalog.ts";
import type { Machine } from "./machine.ts";
import { StreamMachine } from "./stream/stream.ts";

export type MachineKind = "catalog" | "stream" | "queue";

/** A machine in its first state. */
export function machineFor(kind: MachineKind): Machine {
  switch (kind) {
    case "catalog":
      return new CatalogMachine();
    case "stream":
      return new StreamMachine();
    case "queue":
      return new StreamMachine({ isQueue: true });
  }
}
