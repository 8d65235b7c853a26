// What every client command shares: where to connect, how to print, how to end.

import { type Command, InvalidArgumentError, Option } from "commander";
import { Flotilla, FlotillaError } from "../client/index.ts";

export type SessionOptions = { readonly endpoints: string; readonly vhost: string; readonly output?: "table" | "json" };

/** Options of every command that talks to a cluster. */
export function withConnection(command: Command): Command {
  return command
    .addOption(
      new Option("--endpoints <list>", "host:port of one or more nodes, comma-separated")
        .env("FLOTILLA_ENDPOINTS")
        .default("127.0.0.1:7440"),
    )
    .option("--vhost <name>", "namespace", "/");
}

export function withOutput(command: Command): Command {
  return withConnection(command).addOption(new Option("--output <form>", "how to print").choices(["table", "json"]).default("table"));
}

/** Runs `work` with a connection; failures become a message on standard error and an exit code. */
export async function session(options: SessionOptions, work: (client: Flotilla) => Promise<void>): Promise<void> {
  try {
    await using client = await Flotilla.connect({ endpoints: options.endpoints.split(",").map((endpoint) => endpoint.trim()) });
    await work(client);
  } catch (error) {
    if (error instanceof InvalidArgumentError) {
      process.stderr.write(`flotilla: ${error.message}\n`);
      process.exitCode = 2;
      return;
    }
    if (!(error instanceof FlotillaError)) throw error;
    process.stderr.write(`flotilla: ${error.message} (${error.code})${hintOf(error)}\n`);
    process.exitCode = exitCodeOf(error);
  }
}

function exitCodeOf(error: FlotillaError): number {
  switch (error.code) {
    case "UNKNOWN_TOPIC":
    case "UNKNOWN_PARTITION":
    case "UNKNOWN_SUBSCRIPTION":
    case "UNKNOWN_QUEUE":
    case "UNKNOWN_EXCHANGE":
    case "UNKNOWN_VHOST":
    case "UNKNOWN_OBJECT":
    case "UNKNOWN_TRANSACTION":
      return 3;
    case "UNREACHABLE":
    case "NO_LEADER":
    case "NODE_UNREACHABLE":
    case "LEADER_CHANGED":
    case "STOPPING":
    case "TIMEOUT":
      return 4;
    case "INVALID_ARGUMENT":
    case "INVALID_NAME":
      return 2;
    default:
      return 1;
  }
}

function hintOf(error: FlotillaError): string {
  switch (error.code) {
    case "TOPIC_EXISTS":
      return "\n  see its settings with: flotilla topic describe NAME, or of a queue: flotilla queue describe NAME";
    case "NOT_ENOUGH_NODES":
      return "\n  ask for fewer with --replicas";
    case "OFFSET_OUT_OF_RANGE":
      return "\n  start elsewhere with --from earliest or --from latest";
    case "UNKNOWN_TOPIC":
      return "\n  see what there is with: flotilla topic list; make it with: flotilla topic create NAME, or a queue with: flotilla queue create NAME";
    case "UNKNOWN_QUEUE":
      return "\n  see what there is with: flotilla queue list; make it with: flotilla queue create NAME";
    case "UNKNOWN_EXCHANGE":
      return "\n  see what there is with: flotilla exchange list; make it with: flotilla exchange create NAME";
    case "UNKNOWN_VHOST":
      return "\n  see what there is with: flotilla vhost list; make it with: flotilla vhost create NAME";
    case "QUEUE_FULL":
      return "\n  see what is in it with: flotilla queue describe NAME; raise the bound with: flotilla queue update NAME --max-messages N";
    case "UNKNOWN_TRANSACTION":
      return "\n  see those that are not over with: flotilla transaction list";
    case "UNKNOWN_PARTITION":
      return "\n  see the partitions with: flotilla topic describe NAME";
    case "UNREACHABLE":
      return "\n  name other nodes with --endpoints or FLOTILLA_ENDPOINTS; start some with: flotilla dev";
    case "BATCH_TOO_LARGE":
      return "\n  send smaller records or batches (--batch-bytes)";
    case "OFFSET_WOULD_GO_BACK":
      return "\n  go back on purpose with: flotilla subscription reset TOPIC NAME --to OFFSET";
    case "DISK_FULL":
      return "\n  free space, or shorten retention with: flotilla topic update NAME --retention-bytes SIZE";
    case "NO_LEADER":
    case "TIMEOUT":
      return "\n  look at the nodes with: flotilla cluster status";
    default:
      return "";
  }
}

/** Prints rows under their headings, or as JSON. */
export function print(
  rows: readonly Readonly<Record<string, unknown>>[],
  columns: readonly string[],
  options: Pick<SessionOptions, "output">,
): void {
  if (options.output === "json") {
    process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    return;
  }
  const cells = rows.map((row) => columns.map((column) => String(row[column] ?? "")));
  const widths = columns.map((column, at) => Math.max(column.length, ...cells.map((line) => line[at]!.length)));
  const line = (values: readonly string[]): string =>
    values
      .map((value, at) => value.padEnd(widths[at]!))
      .join("  ")
      .trimEnd();
  process.stdout.write(`${[line(columns.map((column) => column.toUpperCase())), ...cells.map(line)].join("\n")}\n`);
}

/** An option parser for whole numbers. */
export function whole(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < minimum || value > maximum)
      throw new InvalidArgumentError(`must be a whole number of ${minimum}..${maximum}`);
    return value;
  };
}

/** A point in time, in ms since 1970: ISO 8601, or the number itself after an @. */
export function instant(text: string): number {
  const timeMs = /^@\d+$/.test(text) ? whole(0, Number.MAX_SAFE_INTEGER)(text.slice(1)) : Date.parse(text);
  if (!Number.isSafeInteger(timeMs) || timeMs < 0)
    throw new InvalidArgumentError("must be a time such as 2026-01-31T12:00:00Z or @1767225600000");
  return timeMs;
}

/** A regular expression. */
export function regex(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** A point in time for people; empty for 0. */
export function timeText(timeMs: number): string {
  return timeMs === 0 ? "" : new Date(timeMs).toISOString();
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const UNITS_BYTES: Readonly<Record<string, number>> = { b: 1, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3, tib: 1024 ** 4 };

/** 90s, 12h, 7d; a plain number is milliseconds. */
export function duration(text: string): number {
  return withUnit(text, UNITS_MS, "a duration such as 500ms, 90s, 12h or 7d");
}

/** 512MiB, 10GiB; a plain number is bytes. */
export function size(text: string): number {
  return withUnit(text, UNITS_BYTES, "a size such as 512MiB or 10GiB");
}

/** Bytes for people: 1.5 GiB. */
export function sizeText(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return power === 0 ? `${bytes} B` : `${(bytes / 1024 ** power).toFixed(1)} ${["", "K", "M", "G", "T"][power]}iB`;
}

function withUnit(text: string, units: Readonly<Record<string, number>>, what: string): number {
  const match = /^(\d+)([a-zA-Z]*)$/.exec(text);
  const unit = match === null ? undefined : match[2] === "" ? 1 : units[match[2]!.toLowerCase()];
  const value = unit === undefined ? Number.NaN : Number(match![1]) * unit;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`must be ${what}`);
  return value;
}
