// The process of a node: settings in, exit code out. Crash-only: a bug or a failed write ends it, and the next start
// recovers from the log.

import { pino } from "pino";
import type { Logger } from "../base/logger.ts";
import type { Settings } from "../config/settings.ts";
import { processEnvironment } from "./environment.ts";
import { FlotillaNode } from "./node.ts";

/** Nothing may keep a stopping process longer than this beyond its drain time. */
const STOP_GRACE_MS = 10_000;

/** Runs a node until a signal ends it. Resolves with the process's exit code. */
export async function serve(settings: Settings): Promise<number> {
  const logger = makeLogger(settings);
  return new Promise((resolve) => {
    let ended = false;
    const fatal = (error: Error): void => {
      if (ended) return;
      ended = true;
      logger.error({ error: describe(error) }, "the node cannot go on");
      // At once: nothing may be acknowledged after a failed write or a broken invariant.
      process.exit(70);
    };
    process.on("uncaughtException", fatal);
    process.on("unhandledRejection", (reason) => fatal(reason instanceof Error ? reason : new Error(String(reason))));
    const node = new FlotillaNode(settings, { logger, fatal }, processEnvironment());
    const stop = (signal: string): void => {
      logger.info({ signal }, "stopping");
      setTimeout(() => fatal(new Error("the node did not stop in time")), settings.drainTimeoutMs + STOP_GRACE_MS).unref();
      node.stop().then(
        () => {
          ended = true;
          resolve(0);
        },
        (error: unknown) => fatal(error as Error),
      );
    };
    process.once("SIGTERM", stop);
    process.once("SIGINT", stop);
    node.start().catch((error: unknown) => {
      ended = true;
      logger.error({ error: describe(error as Error) }, "the node cannot start");
      process.stderr.write(`flotilla: ${(error as Error).message}\n`);
      resolve(1);
    });
  });
}

/** JSON lines on standard output. */
function makeLogger(settings: Settings): Logger {
  const wrap = (target: pino.Logger): Logger => ({
    error: (fields, event) => target.error(fields, event),
    warn: (fields, event) => target.warn(fields, event),
    info: (fields, event) => target.info(fields, event),
    debug: (fields, event) => target.debug(fields, event),
    child: (fields) => wrap(target.child(fields)),
  });
  return wrap(pino({ level: settings.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ sync: true })));
}

function describe(error: Error): object {
  const cause = error.cause instanceof Error ? { cause: error.cause.message } : {};
  return { name: error.name, message: error.message, stack: error.stack, ...cause };
}
