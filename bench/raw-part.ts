// One process of the raw measurements in ceiling.ts: `disk FILE SECONDS`, `sink`, or `source PORT SECONDS`. Tells its
// parent what it saw.

import { closeSync, fdatasyncSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { payload } from "./system.ts";

const WRITE_BYTES = 1024 * 1024;
const FILE_BYTES = 64 * 1024 * 1024;
const SEND_BYTES = 256 * 1024;

const [mode, target, seconds] = process.argv.slice(2);
if (mode === "disk") tell({ rate: disk(target!, Number(seconds)) });
else if (mode === "sink") sink();
else source(Number(target), Number(seconds));

function tell(message: object): void {
  process.send!(message);
}

function disk(path: string, length: number): number {
  const file = openSync(path, "w");
  const buffer = payload(WRITE_BYTES);
  ftruncateSync(file, FILE_BYTES);
  const start = performance.now();
  let bytes = 0;
  while (performance.now() - start < length * 1000) {
    writeSync(file, buffer, 0, WRITE_BYTES, bytes % FILE_BYTES);
    fdatasyncSync(file);
    bytes += WRITE_BYTES;
  }
  const rate = bytes / ((performance.now() - start) / 1000);
  closeSync(file);
  rmSync(path);
  return rate;
}

function sink(): void {
  const server = createServer((socket) => {
    const start = performance.now();
    let bytes = 0;
    socket.on("data", (chunk) => (bytes += chunk.length));
    socket.on("end", () => {
      tell({ rate: bytes / ((performance.now() - start) / 1000) });
      socket.end();
      server.close();
      process.disconnect();
    });
  });
  server.listen(0, "127.0.0.1", () => tell({ port: (server.address() as AddressInfo).port }));
}

function source(port: number, length: number): void {
  const buffer = payload(SEND_BYTES);
  const socket = connect({ host: "127.0.0.1", port, noDelay: true }, () => {
    const start = performance.now();
    let bytes = 0;
    const send = (): void => {
      while (performance.now() - start < length * 1000) {
        bytes += SEND_BYTES;
        if (socket.write(buffer)) continue;
        socket.once("drain", send);
        return;
      }
      socket.end();
      tell({ rate: bytes / ((performance.now() - start) / 1000) });
      process.disconnect();
    };
    send();
  });
}
