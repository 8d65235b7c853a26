// Health and metrics over HTTP: /livez (the event loop turns), /readyz (calls can be served), /metrics (Prometheus text).

import { createServer, type Server } from "node:http";
import { once } from "node:events";

export type HttpSettings = { readonly host: string; readonly port: number };
export type HttpComponents = { readonly ready: () => boolean; readonly metrics: () => string };

const HEADERS_TIMEOUT_MS = 10_000;

export class HttpEndpoint {
  private readonly settings: HttpSettings;
  private readonly server: Server;

  constructor(settings: HttpSettings, components: HttpComponents) {
    this.settings = settings;
    this.server = createServer(
      { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: HEADERS_TIMEOUT_MS, maxHeaderSize: 8 * 1024 },
      (request, response) => {
        const answer = (status: number, type: string, body: string): void => {
          response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
          response.end(body);
        };
        request.resume();
        switch (request.url) {
          case "/livez":
            answer(200, "text/plain", "ok\n");
            return;
          case "/readyz":
            answer(
              components.ready() ? 200 : 503,
              "text/plain",
              components.ready() ? "ready\n" : "not ready: the catalog has no leader yet, or the node is stopping\n",
            );
            return;
          case "/metrics":
            answer(200, "text/plain; version=0.0.4", components.metrics());
            return;
          default:
            answer(404, "text/plain", "there are /livez, /readyz and /metrics\n");
        }
      },
    );
    this.server.maxConnections = 256;
  }

  async start(): Promise<void> {
    this.server.listen(this.settings.port, this.settings.host);
    await once(this.server, "listening");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.server.listening) return;
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, "close");
  }
}
