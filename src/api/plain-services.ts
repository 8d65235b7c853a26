// Health and reflection come from libraries that neither bound a request nor wait for a slow reader. Here they learn both.

import type { MethodDefinition, Server, ServerDuplexStream, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";

/** Bytes of one request of these services: names and numbers. */
const REQUEST_BYTES_MAX = 4_096;

type Stream = ServerDuplexStream<unknown, unknown>;

/** A server to which a library can add its service; it becomes one of `server`, with manners. */
export function bounded(server: Server): Server {
  const addService = (definition: ServiceDefinition, implementation: UntypedServiceImplementation): void => {
    const methods: Record<string, MethodDefinition<unknown, unknown>> = {};
    const handlers: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(definition) as [string, MethodDefinition<unknown, unknown>][]) {
      methods[name] = { ...method, requestDeserialize: (bytes) => method.requestDeserialize(checked(bytes)) };
      const key = Object.hasOwn(implementation, name) ? name : (method.originalName ?? name);
      const handler = implementation[key]!;
      handlers[key] = method.requestStream
        ? (((call: Stream) => (handler as (call: Stream) => void)(patient(call))) as typeof handler)
        : handler;
    }
    server.addService(methods, handlers);
  };
  return { addService } as unknown as Server;
}

function checked(bytes: Buffer): Buffer {
  // The caller hears INTERNAL "Error deserializing request": more than these services can say, and enough.
  if (bytes.length > REQUEST_BYTES_MAX) throw new Error(`a request of ${bytes.length} bytes`);
  return bytes;
}

/** Reads no further request while the caller does not read the answers. */
function patient(call: Stream): Stream {
  const write = call.write.bind(call) as (message: unknown) => boolean;
  call.write = ((message: unknown): boolean => {
    const hasRoom = write(message);
    if (!hasRoom && !call.isPaused()) {
      call.pause();
      call.once("drain", () => call.resume());
    }
    return hasRoom;
  }) as Stream["write"];
  return call;
}
