// A machine with its disk and its wall clock, and the lives of the node's process on it: the product's own FlotillaNode over a
// simulated environment. A life ends at once: whatever it still calls does nothing, whatever it waits for never comes.

import type { Clock } from "../../src/base/clock.ts";
import type { Logger } from "../../src/base/logger.ts";
import type { Random } from "../../src/base/prng.ts";
import type { Broker } from "../../src/broker/types.ts";
import { settingsSchema, type Settings } from "../../src/config/settings.ts";
import { ReleaseTooOldError } from "../../src/replica/rules.ts";
import type { ReplicaHost } from "../../src/replica/host.ts";
import type { NodeEnvironment } from "../../src/server/environment.ts";
import { FlotillaNode } from "../../src/server/node.ts";
import type { SimOptions } from "./options.ts";
import { NEXT_RELEASE, OLD_RELEASE, type ReleaseName } from "./releases.ts";
import { DiskContents, SimDisk, type Moment } from "./sim-disk.ts";
import { SimKv } from "./sim-kv.ts";
import type { SimNet } from "./sim-net.ts";
import { between, type Owner, type World } from "./world.ts";

/** 2026-01-01. */
const WALL_START_MS = 1_767_225_600_000;
const PEER_PORT = 7441;
export const DATA_DIR = "/data";
/** There is little to read, and a small read counts for more than it has: this is some ten reads a second. */
const SCRUB_BYTES_PER_SECOND = 1024 * 1024;
/** Of each group one, and one of the index; what the product counts for each at least (server/scrubbing.ts). */
const SCRUB_READ_BYTES = 64 * 1024;

export type Death = "kill" | "power";
/** The end of a life at an effect: the `left`-th one of the kind from now on ("" = of any), before it happens or right after. */
export type DeathAtEffect = { readonly kind: string; readonly moment: Moment; left: number; readonly how: Death };
export type MachineEvents = {
  readonly note: (who: string, what: string, fields: object) => void;
  /** A node's process ended for a reason that no fault explains. */
  readonly bug: (who: string, error: Error) => void;
};

export class SimMachine {
  readonly id: number;
  readonly name: string;
  readonly disk = new DiskContents();
  /** Added to the wall clock. */
  wallOffsetMs = 0;
  life: SimLife | null = null;
  lives = 0;
  /** What is installed: the next start runs it. */
  release: ReleaseName = "old";
  /** Switched off by an operator: nobody starts it. */
  isHeldDown = false;
  /** Partitions between clients and this node that are in force. */
  clientCuts = 0;
  /** Told when a fault is felt. */
  felt: (what: string) => void = () => {};
  /** How often its nodes wrote down what. */
  readonly said = new Map<string, number>();
  private readonly parts: { world: World; net: SimNet; options: SimOptions; events: MachineEvents; random: Random };

  constructor(id: number, parts: SimMachine["parts"]) {
    this.id = id;
    this.name = `node${id}`;
    this.parts = parts;
  }

  get isUp(): boolean {
    return this.life !== null;
  }

  /** What clients of this node talk to; null while it takes no calls. */
  get broker(): Broker | null {
    return this.life?.broker ?? null;
  }

  get host(): ReplicaHost | null {
    return this.life?.host ?? null;
  }

  start(): void {
    if (this.life !== null || this.isHeldDown) return;
    this.parts.net.machineUp(this.name);
    this.lives += 1;
    this.life = new SimLife(this, this.parts);
    this.life.start();
  }

  /** The process ends, with the machine (`power`) or without it. */
  crash(how: Death): void {
    const { life } = this;
    const { world, net, random } = this.parts;
    if (how === "power") net.machineDown(this.name);
    if (life !== null) {
      this.life = null;
      life.isDead = true;
      net.ownerDied(life, how === "kill");
      world.trace.note(world.nowUs, this.name, how, 0, 0);
    }
    if (how === "kill") this.disk.kill(random);
    else this.disk.cutPower(random);
  }
}

export class SimLife implements Owner {
  readonly name: string;
  isDead = false;
  pausedUntilUs = 0;
  broker: Broker | null = null;
  /** Changes of the world that this life has made, by kind: bytes written, sent, answered, files named. */
  readonly effects = new Map<string, number>();
  diesAt: DeathAtEffect | null = null;
  readonly machine: SimMachine;
  /** Another one may be installed while it runs. */
  private readonly release: ReleaseName;
  private readonly parts: SimMachine["parts"];
  private node!: FlotillaNode;

  constructor(machine: SimMachine, parts: SimMachine["parts"]) {
    this.machine = machine;
    this.name = machine.name;
    this.release = machine.release;
    this.parts = parts;
  }

  /** The product keeps it to itself; the checkers look at what it holds. */
  get host(): ReplicaHost | null {
    return (this.node as unknown as { host: ReplicaHost | null }).host;
  }

  start(): void {
    const exit = (error: Error): void => this.failed(error);
    this.node = new FlotillaNode(this.settings(), { logger: this.logger(), fatal: exit }, this.environment());
    this.node.start().catch(exit);
  }

  /** The process ends with a non-zero code. */
  failed(error: Error): void {
    if (this.isDead) return;
    const { events } = this.parts;
    events.note(this.name, "the process ends", { error: describe(error) });
    this.machine.crash("kill");
    if (error instanceof ReleaseTooOldError && this.release === "old") {
      // It says what to do.
      this.machine.felt("release too old");
      this.machine.release = "next";
    } else if (!isExplained(error)) events.bug(this.name, error);
  }

  readonly effect = (kind: string, moment: Moment): void => {
    if (moment === "before") this.effects.set(kind, (this.effects.get(kind) ?? 0) + 1);
    const { diesAt } = this;
    if (diesAt === null || this.isDead || diesAt.moment !== moment || (diesAt.kind !== "" && diesAt.kind !== kind)) return;
    diesAt.left -= 1;
    if (diesAt.left > 0) return;
    this.machine.felt(`death ${moment} ${kind}`);
    this.machine.crash(diesAt.how);
  };

  private settings(): Settings {
    const { options } = this.parts;
    const peers = Array.from({ length: options.nodes }, (_, at) => `${at + 1}=node${at + 1}:${PEER_PORT}`).join(",");
    return settingsSchema.parse({
      nodeId: this.machine.id,
      clusterId: "sim",
      dataDir: DATA_DIR,
      host: this.name,
      peers,
      tickMs: options.tickMs,
      electionTimeoutMs: options.electionTimeoutMs,
      segmentBytes: options.segmentBytes,
      scrubPauseMs: options.scrubPauseMs,
      scrubBytesPerSecond: SCRUB_BYTES_PER_SECOND,
      diskWatermarkBytes: 512 * 1024,
      diskReserveBytes: 128 * 1024,
    });
  }

  private environment(): NodeEnvironment {
    const { world, net, random } = this.parts;
    const disk = new SimDisk(this.machine.disk, { world, owner: this, random, effect: this.effect });
    const nothing = { [Symbol.asyncDispose]: async (): Promise<void> => {} };
    return {
      release: this.release === "old" ? OLD_RELEASE : NEXT_RELEASE,
      clock: this.clock(),
      disk,
      seed: () => random.below(2 ** 32),
      newStoreId: () =>
        Array.from({ length: 4 }, () =>
          random
            .below(2 ** 32)
            .toString(16)
            .padStart(8, "0"),
        ).join(""),
      cpuMs: () => 0,
      network: () => net.for(this.name, this, this.effect),
      lock: async () => nothing,
      openStore: (directory) => SimKv.open(directory, disk, world, this),
      serveHttp: async () => nothing,
      serveApi: async ({ port }, { broker }) => {
        this.broker = broker;
        return {
          port,
          [Symbol.asyncDispose]: async () => {
            this.broker = null;
          },
        };
      },
    };
  }

  private clock(): Clock {
    const { world, random } = this.parts;
    // As for a process, the start of the monotonic clock means nothing.
    const startUs = world.nowUs - between(random, 0, 1_000_000);
    return {
      monotonicMs: () => (world.nowUs - startUs) / 1_000,
      wallMs: () => WALL_START_MS + Math.floor(world.nowMs) + this.machine.wallOffsetMs,
      schedule: (delayMs, callback) => world.after(Math.max(1, delayMs) * 1_000, this, "timer", callback),
      defer: (callback) => void world.after(10, this, "turn", callback),
    };
  }

  private logger(): Logger {
    const { events, world } = this.parts;
    const say =
      (level: string) =>
      (fields: object, event: string): void => {
        if (this.isDead) return;
        world.trace.note(world.nowUs, this.name, event, 0, 0);
        const { said } = this.machine;
        said.set(event, (said.get(event) ?? 0) + 1);
        events.note(this.name, `${level}: ${event}`, fields);
      };
    const logger: Logger = { error: say("error"), warn: say("warn"), info: say("info"), debug: () => {}, child: () => logger };
    return logger;
  }
}

/** How long the product may take at most to read once what is on the disk. Entries are read by group, and by batch in the newest file. */
export function slowRoundMs(disk: DiskContents, groups: number): number {
  const bytes = disk.names.size * (groups + 1) * SCRUB_READ_BYTES + 2 * disk.usedBytes;
  return (bytes / SCRUB_BYTES_PER_SECOND) * 1_000;
}

/** A fault that the simulation made, or what the product is meant to end of. */
function isExplained(error: Error): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: string };
    if (code === "EIO" || code === "ENOSPC") return true;
  }
  return false;
}

export function describe(error: Error): string {
  const cause = error.cause instanceof Error ? `; cause: ${describe(error.cause)}` : "";
  return `${error.stack ?? error.message}${cause}`;
}
