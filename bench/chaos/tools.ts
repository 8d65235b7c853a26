// What this machine allows. Whatever a fault needs and is missing is named, with the package that has it.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export const NEEDS = ["root", "mount", "shutdown", "nft", "strace", "faketime", "linux"] as const;
export type Need = (typeof NEEDS)[number];

export type Tools = {
  /** Why not, in words; nothing stands here of what there is. */
  readonly missing: ReadonlyMap<Need, string>;
  /** The library that shifts clocks; "" = none. */
  readonly faketime: string;
};

/** Debian keeps the libraries of each architecture in a folder of their own. */
const LIBRARIES = "/usr/lib";

export function findTools(): Tools {
  const missing = new Map<Need, string>();
  const isLinux = process.platform === "linux";
  const isRoot = isLinux && process.getuid?.() === 0;
  if (!isLinux) missing.set("linux", "it needs Linux");
  if (!isRoot) missing.set("root", "it needs root on Linux");
  const tool = (need: Need, command: string, args: readonly string[], debianPackage: string): void => {
    if (!isRoot) missing.set(need, "it needs root on Linux");
    else if (!works(command, args)) missing.set(need, `it needs ${command} (Debian: apt-get install ${debianPackage})`);
  };
  tool("mount", "mkfs.ext4", ["-V"], "e2fsprogs");
  tool("shutdown", "python3", ["-c", "import fcntl"], "python3");
  if (missing.has("mount")) missing.set("shutdown", missing.get("mount")!);
  tool("nft", "nft", ["--version"], "nftables");
  tool("strace", "strace", ["-V"], "strace");
  const faketime = isLinux ? findFaketime() : "";
  if (faketime === "") missing.set("faketime", isLinux ? "it needs libfaketime (Debian: apt-get install libfaketime)" : "it needs Linux");
  return { missing, faketime };
}

function works(command: string, args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function findFaketime(): string {
  const names = existsSync(LIBRARIES) ? readdirSync(LIBRARIES) : [];
  return names.map((name) => join(LIBRARIES, name, "faketime/libfaketime.so.1")).find((path) => existsSync(path)) ?? "";
}
