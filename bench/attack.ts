// `node attack.js ENDPOINT SECONDS TARGETS NAME...`: sends the named attacks, in turn, as fast as they are taken. Prints, as
// one line of JSON, how many calls of each ended, by gRPC status ("" = the call was cut off).

import { connect, constants, type ClientHttp2Session } from "node:http2";
import { constants as priorities, setPriority } from "node:os";
import { attacks, type Attack, type Targets } from "./attacks.ts";

const SESSIONS = 4;
const CALLS_PER_SESSION = 8;
/** After the time is up calls are cancelled; what has not ended then is cut off. */
const GRACE_MS = 200;
const PROBE_MS = 20_000;

type Outcomes = Record<string, Record<string, number>>;

// On a machine of few cores this takes only what the nodes leave: what is measured is their work, not their waiting for it.
setPriority(priorities.priority.PRIORITY_LOW);
const [endpoint, seconds, targets, ...names] = process.argv.slice(2);
const chosen = attacks(JSON.parse(targets!) as Targets).filter(({ name }) => names.length === 0 || names.includes(name));
const outcomes: Outcomes = {};
for (const attack of chosen) outcomes[attack.name] = await run(attack, (Number(seconds) * 1_000) / chosen.length);
process.stdout.write(`${JSON.stringify(outcomes)}\n`);
process.exit(0);

async function run(attack: Attack, ms: number): Promise<Record<string, number>> {
  const ended: Record<string, number> = {};
  const body = attack.body();
  // One alone, with all the time that it takes, says what the node thinks of it.
  if (attack.more === undefined) await probe(attack, body, ended);
  const until = Date.now() + ms;
  const workers = [];
  for (let session = 0; session < SESSIONS; session++) workers.push(keepCalling(attack, body, until, ended));
  await Promise.all(workers);
  return ended;
}

async function probe(attack: Attack, body: Buffer, ended: Record<string, number>): Promise<void> {
  const session = connect(`http://${endpoint}`);
  session.on("error", () => {});
  const status = await call(session, attack, body, Date.now() + PROBE_MS);
  ended[status] = (ended[status] ?? 0) + 1;
  session.destroy();
}

/** One connection, made anew when the node closes it. */
async function keepCalling(attack: Attack, body: Buffer, until: number, ended: Record<string, number>): Promise<void> {
  while (Date.now() < until) {
    const session = connect(`http://${endpoint}`);
    session.on("error", () => {});
    const calls = Array.from({ length: CALLS_PER_SESSION }, async () => {
      while (Date.now() < until && !session.closed && !session.destroyed) {
        const status = await call(session, attack, body, until);
        ended[status] = (ended[status] ?? 0) + 1;
        if (status === "") break;
      }
    });
    // A call that the node no longer reads from does not end by itself.
    const late = new Promise((resolve) => setTimeout(resolve, Math.max(0, until - Date.now()) + GRACE_MS));
    await Promise.race([Promise.all(calls), late]);
    session.destroy();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function call(session: ClientHttp2Session, attack: Attack, body: Buffer, until: number): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request({
      ":method": "POST",
      ":path": attack.path,
      "content-type": "application/grpc",
      te: "trailers",
      ...attack.headers,
    });
    let status = "";
    const take = (headers: Record<string, unknown>): void => {
      if (headers["grpc-status"] !== undefined) status = String(headers["grpc-status"]);
    };
    stream.on("response", take);
    stream.on("trailers", take);
    stream.on("error", () => {});
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), Math.max(1, until - Date.now()));
    stream.on("close", () => {
      clearTimeout(timer);
      resolve(status);
    });
    if (attack.more === undefined) {
      stream.resume();
      stream.end(body);
      return;
    }
    const more = attack.more();
    stream.pause();
    const send = (): void => {
      while (!stream.closed && !stream.destroyed && Date.now() < until) if (!stream.write(more())) return;
    };
    stream.on("drain", send);
    stream.write(body);
    send();
  });
}
