// Packets of loopback that the kernel drops, by port: a table of nftables of this process's own, which goes with it.

import { execFile, execFileSync } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

const TABLE = `flotilla_chaos_${process.pid}`;

export type PacketRule = {
  /** The port on either side of the packet. */
  readonly port: number;
  /** Of a hundred. */
  readonly percent: number;
};

export class Firewall {
  private isOn = false;

  /** Drops what the rules say until `off`. */
  async on(rules: readonly PacketRule[]): Promise<void> {
    await this.off();
    const drops = rules.flatMap(({ port, percent }) => {
      const chance = percent >= 100 ? "" : `numgen random mod 100 < ${percent} `;
      return ["dport", "sport"].map((side) => `tcp ${side} ${port} ${chance}counter drop`);
    });
    const chain = ["type filter hook input priority 0; policy accept;", ...drops].join("\n");
    await nft(`table inet ${TABLE} {\nchain input {\n${chain}\n}\n}\n`);
    if (!this.isOn) process.once("exit", this.offAtExit);
    this.isOn = true;
  }

  /** Returns how many packets were dropped. */
  async off(): Promise<number> {
    if (!this.isOn) return 0;
    const { stdout: listed } = await run("nft", ["list", "table", "inet", TABLE]);
    let packets = 0;
    for (const [, count] of listed.matchAll(/packets (\d+)/g)) packets += Number(count);
    await nft(`delete table inet ${TABLE}`);
    process.off("exit", this.offAtExit);
    this.isOn = false;
    return packets;
  }

  private readonly offAtExit = (): void => {
    try {
      execFileSync("nft", ["delete", "table", "inet", TABLE], { stdio: "ignore" });
    } catch {
      // It went with the namespace.
    }
  };
}

async function nft(text: string): Promise<void> {
  const running = run("nft", ["-f", "-"]);
  running.child.stdin!.end(text);
  await running;
}
