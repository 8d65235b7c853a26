// One cluster for a file of end-to-end tests, with a client and the command line beside it.

import { afterAll, beforeAll, expect } from "vitest";
import { Flotilla, type Message, type QueueConsumer, type WorkSettings } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "./cluster.ts";
import { flotilla, type Finished } from "./run.ts";

export type Feature = {
  readonly cluster: TestCluster;
  readonly client: Flotilla;
  /** A name that no other test of the file has. */
  readonly name: (what: string) => string;
  readonly queue: (settings?: Partial<WorkSettings>, vhost?: string) => Promise<string>;
  /** The command line: to its end, and where it must end well. Words are split at spaces, unless they are given as a list. */
  readonly run: (args: string | readonly string[], input?: string) => Promise<Finished>;
  readonly done: (args: string | readonly string[], input?: string) => Promise<string>;
  readonly json: <Rows = Record<string, unknown>[]>(args: string | readonly string[]) => Promise<Rows>;
};

/** Starts the cluster before the tests of the file, and ends it after them. */
export function feature(nodes = 3): Feature {
  let cluster: TestCluster;
  let client: Flotilla;
  let names = 0;
  beforeAll(async () => {
    cluster = await startCluster({ nodes });
    client = await Flotilla.connect({ endpoints: cluster.endpoints });
  }, 60_000);
  afterAll(async () => {
    await client?.close();
    await cluster?.[Symbol.asyncDispose]();
  });
  const words = (args: string | readonly string[]): readonly string[] => (typeof args === "string" ? args.split(" ") : args);
  const run = (args: string | readonly string[], input = ""): Promise<Finished> =>
    flotilla(cluster.endpoints[cluster.endpoints.length - 1]!, words(args), input);
  const done = async (args: string | readonly string[], input?: string): Promise<string> => {
    const { code, stdout, stderr } = await run(args, input);
    expect(code, `flotilla ${words(args).join(" ")}\n${stderr}`).toBe(0);
    return stdout.toString();
  };
  const name = (what: string): string => `${what}-${++names}`;
  return {
    get cluster() {
      return cluster;
    },
    get client() {
      return client;
    },
    name,
    run,
    done,
    json: async <Rows>(args: string | readonly string[]) => JSON.parse(await done([...words(args), "--output", "json"])) as Rows,
    queue: async (settings = {}, vhost = "") => {
      const made = name("q");
      await client.queues.createQueue({ name: made, settings, vhost });
      return made;
    },
  };
}

export function text({ body }: { readonly body: Uint8Array }): string {
  return Buffer.from(body).toString();
}

export function headersOf({ headers }: Pick<Message, "headers">): Record<string, string> {
  return Object.fromEntries(headers.map(({ name, value }) => [name, Buffer.from(value).toString()]));
}

export async function take(consumer: QueueConsumer, count: number): Promise<Message[]> {
  const messages: Message[] = [];
  while (messages.length < count) messages.push((await consumer.next())!);
  return messages;
}
