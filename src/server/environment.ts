// All that a node asks of the machine that it runs on, so that a simulator can own it: time, chance, files, network, doors;
// and the release that is installed there, as a cluster may run two of them for a while.

import { randomBytes } from "node:crypto";
import { GrpcApi, type ApiComponents, type ApiSettings } from "../api/grpc-server.ts";
import type { Clock } from "../base/clock.ts";
import { DirectoryLock } from "../log/directory-lock.ts";
import type { Disk } from "../log/disk.ts";
import { NodeDisk } from "../log/node-disk.ts";
import type { Machine } from "../machine/machine.ts";
import { machineFor, type MachineKind } from "../machine/registry.ts";
import { RULES_VERSION } from "../machine/versions.ts";
import { tcpNetwork, type PeerNetwork, type TlsFiles } from "../peer/network.ts";
import type { Kv } from "../store/kv.ts";
import { LevelKv } from "../store/level-kv.ts";
import { HttpEndpoint, type HttpComponents, type HttpSettings } from "./http.ts";
import { systemClock } from "./system-clock.ts";

/** `scrub` reads what `get` does not check; it rejects with StoreDamagedError. */
export type NodeStore = Kv & { scrub(pace: (bytes: number) => Promise<void>): Promise<void> };
/** A door that is open until it is disposed of. */
export type Door = AsyncDisposable & { readonly port: number };

/** What nodes of different releases may differ in: the newest rules that their machines know (replica/rules.ts). */
export type Release = { readonly rulesVersion: number; readonly machineOf: (kind: MachineKind) => Machine };
export const THIS_RELEASE: Release = { rulesVersion: RULES_VERSION, machineOf: machineFor };

export type NodeEnvironment = {
  readonly release: Release;
  readonly clock: Clock;
  readonly disk: Disk;
  /** Of 32 bits, for what need not be a secret. */
  readonly seed: () => number;
  /** Names for data directories, never the same twice. */
  readonly newStoreId: () => string;
  /** CPU milliseconds that this process has used. */
  readonly cpuMs: () => number;
  readonly network: (tls: TlsFiles | undefined) => PeerNetwork;
  /** Keeps other processes off the directory. */
  readonly lock: (directory: string) => Promise<AsyncDisposable>;
  readonly openStore: (directory: string) => Promise<NodeStore>;
  readonly serveHttp: (settings: HttpSettings, components: HttpComponents) => Promise<AsyncDisposable>;
  readonly serveApi: (settings: ApiSettings, components: ApiComponents) => Promise<Door>;
};

export function processEnvironment(): NodeEnvironment {
  return {
    release: THIS_RELEASE,
    clock: systemClock,
    disk: new NodeDisk(),
    seed: () => randomBytes(4).readUInt32LE(),
    newStoreId: () => randomBytes(16).toString("hex"),
    cpuMs: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000;
    },
    network: tcpNetwork,
    lock: (directory) => DirectoryLock.acquire(directory),
    openStore: (directory) => LevelKv.open(directory),
    serveHttp: async (settings, components) => {
      const http = new HttpEndpoint(settings, components);
      await http.start();
      return http;
    },
    serveApi: async (settings, components) => {
      const api = new GrpcApi(settings, components);
      await api.start();
      return api;
    },
  };
}
