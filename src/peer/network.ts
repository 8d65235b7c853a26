// Byte streams between nodes: what the links ask of TCP, so that a simulator can own it.

import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { connect as tlsConnect, createServer as createTlsServer } from "node:tls";

/** One end of a connection, with the words of `net.Socket`. */
export interface PeerSocket {
  readonly remoteAddress?: string | undefined;
  /** Bytes that were written and not yet handed to the network. */
  readonly writableLength: number;
  on(event: "data", listener: (chunk: Buffer) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "drain" | "end" | "close", listener: () => void): unknown;
  setNoDelay(noDelay: boolean): unknown;
  cork(): void;
  uncork(): void;
  /** The bytes must not change afterwards. */
  write(bytes: Uint8Array): unknown;
  /** Sends what was written, then says that nothing more comes. */
  end(): unknown;
  destroy(): unknown;
  setTimeout(ms: number, callback: () => void): unknown;
}

export interface PeerListener {
  readonly port: number;
  /** Resolves when nobody is accepted any more. */
  close(): Promise<void>;
}

export interface PeerNetwork {
  /** A connection on its way; what fails is told as "error" and "close". */
  connect(host: string, port: number): PeerSocket;
  listen(options: { host: string; port: number; connectionsMax: number }, accept: (socket: PeerSocket) => void): Promise<PeerListener>;
}

export type TlsFiles = { readonly cert: Buffer; readonly key: Buffer; readonly ca: Buffer };

/** The machine's own network; with `tls` both sides show a certificate. */
export function tcpNetwork(tls?: TlsFiles): PeerNetwork {
  return {
    connect: (host, port) => (tls === undefined ? connect({ host, port }) : tlsConnect({ host, port, ...tls, servername: host })),
    listen: async ({ host, port, connectionsMax }, accept) => {
      const listener = (socket: Socket): void => accept(socket);
      const server =
        tls === undefined ? createServer(listener) : createTlsServer({ ...tls, requestCert: true, rejectUnauthorized: true }, listener);
      server.maxConnections = connectionsMax;
      server.listen(port, host);
      await once(server, "listening");
      return {
        port: (server.address() as AddressInfo).port,
        close: async () => {
          server.close();
          await once(server, "close");
        },
      };
    },
  };
}
