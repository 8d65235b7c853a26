// Ports of this machine for nodes that come and go.

import { createSocket, type Socket } from "node:dgram";
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

/** Ports that nobody listens on now, and that no other process is given as long as this one lives; none is given out twice. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === END - FIRST) throw new Error(`of the ports ${FIRST} to ${END} no ${count} are free`);
    const port = next;
    next = next + 1 === END ? FIRST : next + 1;
    const claim = await claimOf(port);
    if (claim === null) continue;
    if (await isFree(port)) ports.push(port);
    else claim.close();
  }
  return ports;
}

/**
 * Where the ways of two processes cross all the same, a port is of whoever holds the UDP socket of its number; null when another
 * does. It stands in nobody's way, for nodes listen with TCP, and is given up when the process ends, however it does.
 */
async function claimOf(port: number): Promise<Socket | null> {
  const socket = createSocket("udp4").unref();
  try {
    await once(socket.bind(port, "127.0.0.1"), "listening");
    return socket;
  } catch {
    socket.close();
    return null;
  }
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
