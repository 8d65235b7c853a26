// What this machine allows. Whatever a fault needs and is missing is named, with the package that has it.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
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
const PROBE_BYTES = 4 * 1024 * 1024;

export function findTools(): Tools {
  const missing = new Map<Need, string>();
  const isLinux = process.platform === "linux";
  const isRoot = isLinux && process.getuid?.() === 0;
  if (!isLinux) missing.set("linux", "it needs Linux");
  if (!isRoot) missing.set("root", "it needs root on Linux");
  /** `isAllowed`: root of a container may have the program and not the right. */
  const tool = (need: Need, what: { command: string; args: readonly string[]; debianPackage: string }, isAllowed: () => boolean): void => {
    const { command, args, debianPackage } = what;
    if (!isRoot) missing.set(need, "it needs root on Linux");
    else if (!works(command, args)) missing.set(need, `it needs ${command} (Debian: apt-get install ${debianPackage})`);
    else if (!isAllowed()) missing.set(need, `${command} is there, and this machine does not allow what it is needed for`);
  };
  tool("mount", { command: "mkfs.ext4", args: ["-V"], debianPackage: "e2fsprogs" }, canMount);
  tool("shutdown", { command: "python3", args: ["-c", "import fcntl"], debianPackage: "python3" }, () => true);
  if (missing.has("mount")) missing.set("shutdown", missing.get("mount")!);
  tool("nft", { command: "nft", args: ["--version"], debianPackage: "nftables" }, () => works("nft", ["list", "tables"]));
  tool("strace", { command: "strace", args: ["-V"], debianPackage: "strace" }, () => works("strace", ["-qq", "-e", "trace=none", "true"]));
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

/** A file system in a file, as each node gets one. */
function canMount(): boolean {
  const directory = mkdtempSync(join(tmpdir(), "flotilla-mount-"));
  try {
    const image = join(directory, "image");
    writeFileSync(image, "");
    truncateSync(image, PROBE_BYTES);
    const root = join(directory, "root");
    mkdirSync(root);
    return works("mkfs.ext4", ["-q", "-F", image]) && works("mount", ["-o", "loop", image, root]) && works("umount", [root]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function findFaketime(): string {
  const names = existsSync(LIBRARIES) ? readdirSync(LIBRARIES) : [];
  return names.map((name) => join(LIBRARIES, name, "faketime/libfaketime.so.1")).find((path) => existsSync(path)) ?? "";
}
