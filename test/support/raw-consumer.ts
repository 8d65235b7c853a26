// A Consume stream of a client that is none of ours: it says what the test says, reads when the test reads, and keeps no rules.

import { credentials, loadPackageDefinition, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

export type RawDelivery = { readonly partition: number; readonly firstOffset: string; readonly count: number; readonly token: string };
type Answer = {
  readonly deliveries: readonly RawDelivery[];
  readonly settled: readonly { readonly error: { readonly reason: string } | null; readonly messages: number }[];
  readonly drained?: number;
  readonly opened: boolean;
};

const PROTOS = loadSync("flotilla/v1/messaging.proto", {
  includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
  longs: String,
  defaults: true,
  oneofs: true,
});

type Stub = {
  Consume(): ClientDuplexStream<object, Answer>;
  Publish(request: object, done: (error: ServiceError | null) => void): void;
  close(): void;
};

function stubOf(endpoint: string): Stub {
  const { flotilla } = loadPackageDefinition(PROTOS) as unknown as {
    flotilla: { v1: { Messaging: new (endpoint: string, credentials: object) => Stub } };
  };
  return new flotilla.v1.Messaging(endpoint, credentials.createInsecure());
}

/** One publish as the stock tools encode it; resolves with its status, 0 = done. */
export function rawPublish(endpoint: string, request: object): Promise<{ code: number; details: string }> {
  const stub = stubOf(endpoint);
  return new Promise((resolve) =>
    stub.Publish(request, (error) => {
      stub.close();
      resolve({ code: error?.code ?? 0, details: error?.details ?? "" });
    }),
  );
}

export class RawConsumer {
  readonly deliveries: RawDelivery[] = [];
  readonly outcomes: string[] = [];
  messages = 0;
  drained = -1;
  isOpened = false;
  error: ServiceError | null = null;
  private readonly stub: Stub;
  private readonly stream: ClientDuplexStream<object, Answer>;

  constructor(endpoint: string, queue: string, { reads = true, ...open }: { reads?: boolean; autoAck?: boolean; leaseMs?: number } = {}) {
    this.stub = stubOf(endpoint);
    this.stream = this.stub.Consume();
    this.stream.on("error", (error: ServiceError) => (this.error = error));
    if (reads) this.stream.on("data", (answer: Answer) => this.heard(answer));
    this.send({ open: { queue, ...open } });
  }

  send(request: object): void {
    this.stream.write(request);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stream.cancel();
    this.stub.close();
  }

  private heard({ deliveries, settled, drained, opened }: Answer): void {
    this.isOpened ||= opened;
    this.deliveries.push(...deliveries);
    for (const { count } of deliveries) this.messages += count;
    for (const { error } of settled) this.outcomes.push(error?.reason ?? "done");
    // Without the field its default is 0.
    if (drained !== undefined && drained > 0) this.drained = drained;
  }
}
