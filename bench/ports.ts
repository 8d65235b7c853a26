// Ports of this machine for nodes that come and go.

import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Below those that the system gives to outgoing connections and to whoever asks for any: while a node is down, or before it is
 * up, nobody takes its port.
 */
const FIRST = 10_000;
const END = 32_000;

// Programs that run at the same time begin elsewhere.
let next = FIRST + Math.floor(Math.random() * (END - FIRST));

/** Ports that nobody listens on now; none is given out twice before all were. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === END - FIRST) throw new Error(`of the ports ${FIRST} to ${END} no ${count} are free`);
    const port = next;
    next = next + 1 === END ? FIRST : next + 1;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    await once(server.listen(port, "127.0.0.1"), "listening");
  } catch {
    return false;
  }
  await once(server.close(), "close");
  return true;
}
