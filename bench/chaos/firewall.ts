// Packets of loopback that the kernel drops, by port: a table of nftables of this process's own, which goes with it.

import { execFileSync } from "node:child_process";

const TABLE = `flotilla_chaos_${process.pid}`;

export type PacketRule = {
  /** The port on either side of the packet. */
  readonly port: number;
  /** Of packets to the port, from it, or both. */
  readonly direction: "to" | "from" | "both";
  /** Of a hundred. */
  readonly percent: number;
};

export class Firewall {
  private isOn = false;

  /** Drops what the rules say until `off`. */
  on(rules: readonly PacketRule[]): void {
    this.off();
    const drops = rules.flatMap(({ port, direction, percent }) => {
      const chance = percent >= 100 ? "" : `numgen random mod 100 < ${percent} `;
      const sides = direction === "both" ? ["dport", "sport"] : [direction === "to" ? "dport" : "sport"];
      return sides.map((side) => `tcp ${side} ${port} ${chance}counter drop`);
    });
    const chain = ["type filter hook input priority 0; policy accept;", ...drops].join("\n");
    nft(`table inet ${TABLE} {\nchain input {\n${chain}\n}\n}\n`);
    if (!this.isOn) process.once("exit", this.offAtExit);
    this.isOn = true;
  }

  /** Returns how many packets were dropped. */
  off(): number {
    if (!this.isOn) return 0;
    const listed = execFileSync("nft", ["list", "table", "inet", TABLE], { encoding: "utf8" });
    let packets = 0;
    for (const [, count] of listed.matchAll(/packets (\d+)/g)) packets += Number(count);
    nft(`delete table inet ${TABLE}`);
    process.off("exit", this.offAtExit);
    this.isOn = false;
    return packets;
  }

  private readonly offAtExit = (): void => {
    try {
      nft(`delete table inet ${TABLE}`);
    } catch {
      // It went with the namespace.
    }
  };
}

function nft(text: string): void {
  execFileSync("nft", ["-f", "-"], { input: text, stdio: ["pipe", "ignore", "pipe"] });
}
