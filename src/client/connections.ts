// The connections to one address. A node takes only so many calls at one time on each, and what goes beyond waits without a word; so a
// client with more calls and streams than that has further connections.

import type { Client } from "@grpc/grpc-js";

/** Below what nodes take (100), so that a call never waits for a stream to end. */
const CALLS_PER_CONNECTION_MAX = 80;
/** Beyond these, calls share what there is. */
const CONNECTIONS_MAX = 128;

export type Connection = { readonly client: Client; calls: number };

export class Connections {
  private readonly make: () => Client;
  private readonly all: Connection[] = [];

  constructor(make: () => Client) {
    this.make = make;
    this.add();
  }

  /** Its state says whether the node can be reached. */
  get first(): Client {
    return this.all[0]!.client;
  }

  /** For one call more; `release` when it has ended. */
  take(): Connection {
    let chosen = this.all[0]!;
    for (const one of this.all) {
      if (chosen.calls < CALLS_PER_CONNECTION_MAX) break;
      if (one.calls < chosen.calls) chosen = one;
    }
    if (chosen.calls >= CALLS_PER_CONNECTION_MAX && this.all.length < CONNECTIONS_MAX) chosen = this.add();
    chosen.calls += 1;
    return chosen;
  }

  release(connection: Connection): void {
    connection.calls -= 1;
  }

  close(): void {
    for (const { client } of this.all) client.close();
  }

  private add(): Connection {
    const connection = { client: this.make(), calls: 0 };
    this.all.push(connection);
    return connection;
  }
}
