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

/**
 * The claims of this process: where their ways cross all the same, a port is of whoever holds the UDP socket of its number. It
 * stands in nobody's way, for nodes listen with TCP, and is free again when the process ends, however it does.
 */
const claims: Socket[] = [];

/** Ports that nobody listens on now, and that no other process is given as long as this one lives; none is given out twice. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === END - FIRST) throw new Error(`of the ports ${FIRST} to ${END} no ${count} are free`);
    const port = next;
    next = next + 1 === END ? FIRST : next + 1;
    if ((await claim(port)) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

async function claim(port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  try {
    socket.bind(port, "127.0.0.1");
    await once(socket, "listening");
  } catch {
    socket.close();
    return false;
  }
  socket.unref();
  claims.push(socket);
  return true;
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
