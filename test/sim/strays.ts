// What a simulated node must not ask the real machine for: its clock, its chance, its timers, its files and sockets. All of it comes
// through the environment (src/server/environment.ts), or the same seed would not give the same run. While an event of a simulation
// runs, whatever goes past the environment throws, and the owner of the event is told, so that it cannot be swallowed.
//
// What is deterministic by itself stays: microtasks, process.nextTick. FinalizationRegistry stays as well: base/payload-memory.ts
// counts with it, and whether memory is shared changes nothing that a node does.

import childProcess from "node:child_process";
import crypto from "node:crypto";
import dgram from "node:dgram";
import dns from "node:dns";
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import os from "node:os";
import process from "node:process";
import timers from "node:timers";
import timersPromises from "node:timers/promises";
import zlib from "node:zlib";

/** For the simulator itself. */
export const realImmediate: (callback: () => void) => unknown = setImmediate;

export class StrayError extends Error {
  override readonly name = "StrayError";

  constructor(what: string) {
    super(`${what} was used past the environment: no two runs would be the same`);
  }
}

type Told = { failed(error: Error): void };
type Holder = Record<string, unknown>;

/** Whose event runs; null = none does, and everything is allowed. */
let watched: Told | null = null;
let isInstalled = false;

export function forbidStrays(owner: Told): void {
  if (!isInstalled) install();
  watched = owner;
}

export function allowStrays(): void {
  watched = null;
}

function refuse(what: string): void {
  if (watched === null) return;
  const owner = watched;
  const error = new StrayError(what);
  // Telling it may use what is forbidden (a stack, a file of a source map), and is not the node's doing.
  watched = null;
  owner.failed(error);
  watched = owner;
  throw error;
}

const TIMERS = ["setTimeout", "setInterval", "setImmediate"];
const CHANCE = ["randomBytes", "randomFill", "randomFillSync", "randomInt", "randomUUID", "generateKeyPair", "scrypt", "pbkdf2"];
/** Those that finish in the thread pool, whenever it pleases. */
const ZLIB = ["deflate", "deflateRaw", "inflate", "inflateRaw", "gzip", "gunzip", "unzip", "brotliCompress", "brotliDecompress"];

function install(): void {
  isInstalled = true;
  const given: [name: string, holder: object, methods: readonly string[]][] = [
    ["global", globalThis, [...TIMERS, "fetch"]],
    ["timers", timers, TIMERS],
    ["timers/promises", timersPromises, TIMERS],
    ["Math", Math, ["random"]],
    ["performance", performance, ["now"]],
    ["process.hrtime", process.hrtime, ["bigint"]],
    ["process", process, ["hrtime", "cpuUsage", "memoryUsage", "uptime", "resourceUsage"]],
    ["AbortSignal", AbortSignal, ["timeout"]],
    ["crypto", crypto, CHANCE],
    ["crypto", globalThis.crypto, ["getRandomValues", "randomUUID"]],
    ["zlib", zlib, ZLIB],
    ["os", os, ["loadavg", "freemem", "uptime", "hostname", "networkInterfaces"]],
    ["fs", fs, methodsOf(fs)],
    ["fs.promises", fs.promises, methodsOf(fs.promises)],
    ["net", net, ["connect", "createConnection", "createServer"]],
    ["dgram", dgram, ["createSocket"]],
    ["dns", dns, ["lookup", "resolve"]],
    ["http", http, ["request", "get", "createServer"]],
    ["http2", http2, ["connect", "createServer", "createSecureServer"]],
    ["child_process", childProcess, ["spawn", "exec", "execFile", "fork"]],
  ];
  for (const [name, holder, methods] of given) for (const method of methods) guard(name, holder as Holder, method);
  guardDate();
  // Modules that imported a function by its name get the guarded one.
  syncBuiltinESMExports();
}

function methodsOf(holder: object): string[] {
  return Object.keys(holder).filter((name) => typeof (holder as Holder)[name] === "function" && /^[a-z]/.test(name));
}

function guard(name: string, holder: Holder, method: string): void {
  const real = holder[method] as ((...call: unknown[]) => unknown) | undefined;
  if (real === undefined) return;
  const guarded = function (this: unknown, ...call: unknown[]): unknown {
    refuse(`${name}.${method}`);
    return Reflect.apply(real, this, call);
  };
  // What hangs on a function (setTimeout[util.promisify.custom], process.hrtime.bigint) hangs on the guarded one.
  Object.defineProperties(guarded, Object.getOwnPropertyDescriptors(real));
  Object.defineProperty(holder, method, { configurable: true, enumerable: true, writable: true, value: guarded });
}

/** `Date.now()`, `Date()` and `new Date()`; a date of given milliseconds is no stray. */
function guardDate(): void {
  const RealDate = Date;
  RealDate.now = ((now) => () => {
    refuse("Date.now");
    return now();
  })(RealDate.now.bind(RealDate));
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, call, newTarget) => {
      if (call.length === 0) refuse("new Date()");
      return Reflect.construct(target, call, newTarget) as object;
    },
    apply: (target, self, call) => {
      refuse("Date()");
      return Reflect.apply(target, self, call) as string;
    },
  });
}
