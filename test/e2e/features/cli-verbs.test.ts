// Every verb of the command line about queues and what is declared beside them, with what it prints, and how it fails.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { feature } from "../../support/feature.ts";

const at = feature();
const { run, done, json, name, queue } = at;

/** Each of them takes a process that does nothing but start. */
async function sideBySide<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all([worker(), worker(), worker()]);
}

test("cli queue: create, list, describe, update, delete, as a table and as json", async () => {
  const [q, dead] = [name("orders"), name("dead")];
  expect(await done(`queue create ${dead}`)).toMatch(new RegExp(`VHOST +NAME +REPLICAS\\n/ +${dead} +3\n$`));
  const settings = `--delivery-limit 5 --back-off exponential:100ms:1m --ttl 1h --max-messages 10 --max-bytes 1MiB --overflow reject-publish --single-active --expires 7d --dead-letter-queue ${dead}`;
  const wanted = {
    deliveryLimit: 5,
    backOff: "exponential",
    backOffMs: 100,
    backOffMaxMs: 60_000,
    ttlMs: 3_600_000,
    maxMessages: 10,
    maxBytes: 1_048_576,
    overflow: "reject-publish",
    singleActive: true,
    expiresMs: 604_800_000,
    deadLetterExchange: "",
    deadLetterKey: dead,
  };
  const [made] = await json(`queue create ${q} --replicas 1 --durability os ${settings}`);
  expect(made).toMatchObject({ name: q, replicas: 1, durability: "os", declared: wanted, settings: { ...wanted, keyOrder: true } });
  expect((await run(`queue create ${q} --replicas 1 --durability os ${settings}`)).stderr).toContain("exists already");
  await done(`publish ${q} --quiet`, "one\ntwo\n");
  expect(await done("queue list")).toMatch(new RegExp(`^/ +${q} +2 +0 +0 +0 +0 +1`, "m"));
  expect(await json("queue list")).toEqual(expect.arrayContaining([expect.objectContaining({ vhost: "/", name: q, ready: 2, dead: 0 })]));
  const table = await done(`queue describe ${q}`);
  expect(table).toMatch(/SETTING +VALUE +DECLARED/);
  expect(table).toMatch(/ttlMs +3600000 +yes/);
  expect(table).toMatch(/keyOrder +true\n/);
  expect(table).toMatch(/LEADER +REPLICAS +STARTOFFSET +ENDOFFSET +BYTES\n[123] +[123] +0 +2 +\d+/);
  expect(await json(`queue describe ${q}`)).toMatchObject({ queue: { declared: wanted }, startOffset: 0, endOffset: 2, consumers: [] });
  await done(`queue update ${q} --ttl 5m --no-key-order --reset maxBytes,singleActive`);
  const { queue: changed } = await json<{ queue: { declared: object } }>(`queue describe ${q}`);
  const { maxBytes: _b, singleActive: _s, ...kept } = wanted;
  expect(changed.declared).toEqual({ ...kept, ttlMs: 300_000, keyOrder: false });
  await done(`queue delete ${q}`);
  expect(await done("queue list")).not.toContain(q);
});

test("cli queue: peek, purge, redrive, revive", async () => {
  const [q, dead] = [name("work"), name("dead")];
  await done(`queue create ${dead}`);
  await done(`queue create ${q} --delivery-limit 1`);
  await done(`publish ${q} --priority 3 --content-type text/plain --correlation-id c1 --reply-to ${dead} --header h=v --quiet`, "first\n");
  await done(`publish ${q} --delay 1h --key k --quiet`, "later\n");
  expect(await done(`peek ${q}`)).toMatch(/^0 +ready +0 +3 +first\n1 +delayed +0 +0 +\d{4}-\S+Z +later$/m);
  expect(await json(`peek ${q} --count 1`)).toMatchObject([
    {
      offset: 0,
      body: "first",
      state: "ready",
      attempts: 0,
      priority: 3,
      contentType: "text/plain",
      correlationId: "c1",
      replyTo: dead,
      headers: [{ name: "h", value: "v" }],
    },
  ]);
  expect(await json(`queue peek ${q} --from 1`)).toMatchObject([{ body: "later", state: "delayed", key: "k" }]);
  await done(`consume --queue ${q} --count 1 --exec false`);
  expect(await json(`peek ${q}`)).toMatchObject([{ state: "dead", reason: "delivery-limit" }, { state: "delayed" }]);
  expect((await run(`queue revive ${q}`)).stderr).toContain("1 messages wait again");
  await done(`queue update ${q} --dead-letter-queue ${dead}`);
  await done(`consume --queue ${q} --count 1 --exec false`);
  await expect.poll(async () => (await json(`peek ${dead}`)).length).toBe(1);
  expect((await run(`redrive ${dead} --filter nothing`)).stderr).toContain("sent back 0 messages, kept 1");
  expect((await run(`redrive ${dead} --reason expired`)).stderr).toContain("sent back 0 messages, kept 1");
  expect((await run(`redrive ${dead} --filter ^fir --reason delivery-limit`)).stderr).toContain("sent back 1 messages, kept 0");
  expect(await json(`peek ${q}`)).toMatchObject([{ state: "delayed" }, { state: "ready", body: "first", attempts: 0, priority: 3 }]);
  expect((await run(`purge ${q}`)).stderr).toContain("purged 2 messages");
  expect(await json(`peek ${q}`)).toEqual([]);
});

test("cli redrive: with filter and rate, however many stay, and of one key too", async () => {
  const [q, dead] = [name("work"), name("dead")];
  await done(`queue create ${dead}`);
  await done(`queue create ${q} --delivery-limit 1 --dead-letter-queue ${dead}`);
  const lines = Array.from({ length: 3_000 }, (_, line) => (line % 300 === 299 ? "wanted" : "other"));
  await done(`publish ${q} --key k --quiet`, `${lines.join("\n")}\n`);
  await using consumer = await at.client.queueConsumer(q, { prefetch: 1_000 });
  void consumer.run((message) => message.reject(), { concurrency: 50 });
  await expect.poll(async () => (await at.client.queues.describeQueue(dead)).endOffset, { timeout: 60_000, interval: 500 }).toBe(3_000);
  await consumer.close();
  const beganMs = Date.now();
  expect((await run(`redrive ${dead} --filter ^wanted$ --rate 5`)).stderr).toContain("sent back 10 messages, kept 2,990");
  expect(Date.now() - beganMs).toBeGreaterThanOrEqual(1_800);
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ ready: 10 });
  expect((await run(`redrive ${dead} --count 7`)).stderr).toContain("sent back 7 messages");
  const { counts } = (await at.client.queues.describeQueue(dead)).queue;
  expect(counts).toMatchObject({ ready: 2_983, leased: 0 });
}, 120_000);

test("cli exchange: create, list, describe, update, delete", async () => {
  const [x, other, q] = [name("x"), name("other"), await queue()];
  expect(await done(`exchange create ${x} --type topic`)).toMatch(new RegExp(`VHOST +NAME +TYPE +ALTERNATE\\n/ +${x} +topic\n$`));
  expect((await run(`exchange create ${x} --type topic`)).stderr).toContain("exists already");
  await done(`exchange create ${other} --type fanout --alternate ${x}`);
  expect(await done("exchange list")).toMatch(new RegExp(`^/ +${other} +fanout +${x}$`, "m"));
  expect(await json("exchange list")).toEqual(
    expect.arrayContaining([expect.objectContaining({ name: "amq.topic", type: "topic" }), expect.objectContaining({ name: x })]),
  );
  await done(`binding create ${x} ${q} --routing-key a.#`);
  await done(`binding create ${other} ${x} --to-exchange`);
  const table = await done(`exchange describe ${x}`);
  expect(table).toMatch(new RegExp(`^${x} +${q} +queue +a\\.#$`, "m"));
  expect(table).toMatch(new RegExp(`^${other} +${x} +exchange`, "m"));
  expect(await json(`exchange describe ${x}`)).toMatchObject({ exchange: { name: x, type: "topic", alternate: "" }, bindings: [{}, {}] });
  expect(await json(`exchange update ${x} --alternate amq.fanout`)).toMatchObject([{ name: x, alternate: "amq.fanout" }]);
  await done(`binding create amq.fanout ${q}`);
  expect(await json(`explain publish --exchange ${x} --routing-key nobody`)).toMatchObject([{ target: q, by: `${x} -> amq.fanout` }]);
  await done(["exchange", "update", x, "--alternate", ""]);
  expect(await json(`explain publish --exchange ${x} --routing-key nobody`)).toEqual([]);
  await done(`exchange delete ${x}`);
  expect(await done("binding list")).not.toContain(x);
  await done(`exchange delete ${other} --if-unused`);
  await done(`binding delete amq.fanout ${q}`);
});

test("cli binding: create, list, delete; and explain publish", async () => {
  const [x, q] = [name("x"), await queue()];
  await done(`exchange create ${x} --type headers`);
  await done(`binding create ${x} ${q} --header kind=pdf --header urgent --match any`);
  expect((await run(`binding create ${x} ${q} --header kind=pdf --header urgent --match any`)).stderr).toContain("bound already");
  expect(await done(`binding list --source ${x}`)).toMatch(
    new RegExp(`SOURCE +DESTINATION +KIND +ROUTINGKEY +HEADERS\\n${x} +${q} +queue +any \\{"kind":"pdf","urgent":null\\}`),
  );
  expect(await json(`binding list --destination ${q}`)).toMatchObject([
    { source: x, destination: q, kind: "queue", match: "any", headers: { kind: "pdf", urgent: null } },
  ]);
  const route = await done(`explain publish --exchange ${x} --header kind=pdf`);
  expect(route).toMatch(new RegExp(`TARGET +KIND +BY +LEADER +DURABILITY\\n${q} +queue +${x} +[123] +fsync`));
  expect((await run(`explain publish --exchange ${x} --header kind=txt`)).stderr).toContain("nowhere");
  await done(`publish --exchange ${x} --header urgent=1 --mandatory --quiet`, "m\n");
  expect(await done(`consume --queue ${q} --ack auto --count 1 --quiet`)).toBe("m\n");
  await done(`binding delete ${x} ${q} --header kind=pdf --header urgent --match any`);
  expect(await json(`binding list --source ${x}`)).toEqual([]);
});

test("cli publish: --exchange --routing-key --delay --priority --ttl --key on one message; consume --queue --ack auto and manual", async () => {
  const [x, q] = [name("x"), await queue()];
  await done(`exchange create ${x} --type topic`);
  await done(`binding create ${x} ${q} --routing-key a.*`);
  await done(`publish --exchange ${x} --routing-key a.b --delay 1500ms --priority 7 --ttl 1h --key k --header h=v --quiet`, "all of it\n");
  const [message] = await json<Record<string, unknown>[]>(`peek ${q}`);
  expect(message).toMatchObject({
    body: "all of it",
    state: "delayed",
    priority: 7,
    key: "k",
    routingKey: "a.b",
    headers: [{ name: "h" }],
  });
  const record = JSON.parse(await done(`consume --queue ${q} --count 1 --wait 10s --format json --quiet`)) as Record<string, unknown>;
  expect(record).toMatchObject({ body: "all of it", key: "k", priority: 7 });
  await done(`publish ${q} --quiet`, "1\n2\n3\n");
  // What was not asked for is not touched by either way.
  expect(await done(`consume --queue ${q} --ack auto --count 1 --quiet`)).toBe("1\n");
  expect(await done(`consume --queue ${q} --ack manual --count 1 --quiet`)).toBe("2\n");
  expect(await json(`peek ${q}`)).toMatchObject([{ body: "3", state: "ready", attempts: 0 }]);
});

test("cli vhost: create, list, describe, delete, and everything in it", async () => {
  const v = name("v");
  await done(`vhost create ${v}`);
  expect((await run(`vhost create ${v}`)).stderr).toContain("exists already");
  await done(`queue create q --vhost ${v}`);
  await done(`topic create t --vhost ${v}`);
  await done(`exchange create x --vhost ${v}`);
  await done(`publish q --vhost ${v} --quiet`, "m\n");
  expect(await done("vhost list")).toMatch(new RegExp(`^${v} +\\d{4}-`, "m"));
  expect(await json("vhost list")).toEqual(expect.arrayContaining([expect.objectContaining({ name: v })]));
  expect(await json(`vhost describe ${v}`)).toMatchObject([{ name: v, topics: 1, queues: 1, exchanges: 6 }]);
  expect(await done(`vhost describe ${v}`)).toMatch(new RegExp(`NAME +CREATED +TOPICS +QUEUES +EXCHANGES\\n${v} .* 1 +1 +6\n`));
  expect(await done(`consume --queue q --vhost ${v} --quiet`)).toBe("m\n");
  await done(`vhost delete ${v}`);
  expect(await done("vhost list")).not.toContain(v);
});

test("cli policy: set, list, describe, delete", async () => {
  const p = name("p");
  await done(["policy", "set", p, `^${p}\\.`, "--ttl", "1h", "--priority", "3"]);
  expect(await done("policy list")).toMatch(new RegExp(`^/ +${p} +\\^${p}\\\\\\. +3 +\\{"ttlMs":3600000\\}$`, "m"));
  expect(await json("policy list")).toEqual(expect.arrayContaining([expect.objectContaining({ name: p, settings: { ttlMs: 3_600_000 } })]));
  await done(`queue create ${p}.q`);
  expect(await json(`queue describe ${p}.q`)).toMatchObject({ queue: { policy: p, declared: {}, settings: { ttlMs: 3_600_000 } } });
  await done(["policy", "set", p, `^${p}\\.`, "--ttl", "2h"]);
  expect(await json(`policy describe ${p}`)).toMatchObject([{ name: p, priority: 0, settings: { ttlMs: 7_200_000 } }]);
  expect(await done(`policy describe ${p}`)).toMatch(/VHOST +NAME +PATTERN +PRIORITY +SETTINGS/);
  await done(`policy delete ${p}`);
  expect(await done("policy list")).not.toContain(p);
});

test("cli schedule: set, list, describe, delete", async () => {
  const [s, q] = [name("s"), await queue()];
  await done(["schedule", "set", s, "* * * * * *", "--routing-key", q, "--body", "tick", "--key", "k"]);
  expect(await done(`consume --queue ${q} --count 1 --wait 10s --quiet`)).toBe("tick\n");
  const paused = ["schedule", "set", s, "0 3 * * *", "--time-zone", "Europe/Berlin", "--routing-key", q, "--body", "night", "--paused"];
  expect(await json(paused)).toMatchObject([{ name: s, cron: "0 3 * * *", timeZone: "Europe/Berlin", next: "paused", body: "night" }]);
  expect(await json(`schedule describe ${s}`)).toMatchObject([{ name: s, paused: true }]);
  expect(await done(`schedule describe ${s}`)).toMatch(/NAME +CRON +TIMEZONE +EXCHANGE +ROUTINGKEY +NEXT +BODY/);
  await done(paused.slice(0, -1));
  expect(await done("schedule list")).toMatch(new RegExp(`^${s} +0 3 \\* \\* \\* +Europe/Berlin .*T0[12]:00:00\\.000Z +night$`, "m"));
  expect(await json("schedule list")).toEqual(expect.arrayContaining([expect.objectContaining({ name: s })]));
  await done(`schedule delete ${s}`);
  expect(await json("schedule list")).toEqual([]);
});

test("cli subscription: create, list, describe, update, seek, reset, delete", async () => {
  const t = name("t");
  await done(`topic create ${t} --partitions 2`);
  await done(["publish", t, "--key-regex", "^.", "--quiet"], "a\nb\nc\nd\n");
  expect(await json(`subscription create ${t} w --from earliest --delivery-limit 5`)).toMatchObject([
    { topic: t, name: "w", declared: { deliveryLimit: 5 } },
  ]);
  expect((await run(`subscription create ${t} w --delivery-limit 5`)).stderr).toContain("exists already");
  expect((await done(`consume --queue ${t} --subscription w --quiet`)).split("\n").sort().join("")).toBe("abcd");
  await done(`consume ${t} --group g --from earliest --quiet`);
  expect(await done(`subscription list ${t}`)).toMatch(/NAME +KIND +PARTITIONS +LAG.*\ng +cursor +2 +0.*\nw +work +all +0 +0 +0 +0 +0 +0/);
  expect(await json(`subscription list ${t}`)).toMatchObject([
    { name: "g", kind: "cursor", lag: 0 },
    { name: "w", kind: "work", ready: 0 },
  ]);
  await done(`subscription seek ${t} w --to earliest`);
  expect(await json(`subscription describe ${t} w --partition 1`)).toMatchObject({
    subscription: { name: "w" },
    partitions: [{ ready: expect.any(Number) }, { ready: expect.any(Number) }],
    consumers: [],
  });
  const table = await done(`subscription describe ${t} w`);
  expect(table).toMatch(/deliveryLimit +5 +yes/);
  expect(table).toMatch(/PARTITION +READY +LEASED +DELAYED +WAITINGFORKEY +DEAD +CONSUMERS\n0 +\d +0/);
  await done(`subscription update ${t} w --ttl 1h --reset deliveryLimit`);
  expect(await json(`subscription describe ${t} w`)).toMatchObject({ subscription: { declared: { ttlMs: 3_600_000 } } });
  expect(await json(`subscription describe ${t} g`)).toMatchObject([
    { partition: 0, lag: 0 },
    { partition: 1, lag: 0 },
  ]);
  await done(`subscription reset ${t} g --to earliest`);
  expect((await done(`consume ${t} --group g --quiet`)).split("\n")).toHaveLength(5);
  for (const one of ["w", "g"]) await done(`subscription delete ${t} ${one}`);
  expect(await json(`subscription list ${t}`)).toEqual([]);
});

test("cli: mistakes about queues and what is declared are named, with what to do about them, and an exit code", async () => {
  const [q, x, t] = [await queue({ ttlMs: 1_000 }), name("x"), name("t")];
  await done(`exchange create ${x} --type topic`);
  await done(`binding create ${x} ${q} --routing-key k`);
  await done(`topic create ${t}`);
  await done(`subscription create ${t} w`);
  await done(`publish ${q} --ttl 1h --quiet`, "m\n");
  await using consumer = await at.client.queueConsumer(q, { prefetch: 1 });
  expect((await consumer.next())!.attempt).toBe(1);
  const wrong: { args: string; code: number | null; stderr: string }[] = [];
  const mistakes = [
    ["queue create a/b", 2, "INVALID_NAME"],
    [`queue create ${q} --ttl 2s`, 1, "EXISTS_DIFFERENT", "ttlMs is 1000, not 2000"],
    [`queue create ${q} --ttl 1s --replicas 1`, 1, "EXISTS_DIFFERENT", "replicas is 3, not 1"],
    [`queue create ${t}`, 1, "EXISTS_DIFFERENT", "exists as a topic"],
    ["queue create big --replicas 7", 1, "NOT_ENOUGH_NODES", "--replicas"],
    ["queue create q2 --back-off sometimes", 2, "fixed:1s"],
    ["queue create q2 --dead-letter-queue a --dead-letter-exchange b", 2, "stands alone"],
    ["queue create q2 --overflow explode", 2, "drop-head"],
    ["queue create q2 --vhost nowhere", 3, "UNKNOWN_VHOST", "vhost create"],
    ["queue describe nope", 3, "UNKNOWN_QUEUE", "queue list"],
    [`queue describe ${t}`, 3, "is a topic"],
    ["queue update nope --ttl 1s", 3, "UNKNOWN_QUEUE"],
    [`queue update ${q}`, 2, "nothing to change"],
    [`queue update ${q} --reset nothing`, 2, '"nothing"', "ttlMs"],
    ["queue delete nope", 3, "UNKNOWN_QUEUE"],
    [`queue delete ${q} --if-unused`, 1, "CONFLICT", "1 consumers"],
    [`queue delete ${q} --if-empty`, 1, "CONFLICT", "1 messages"],
    ["queue revive nope", 3, "UNKNOWN_QUEUE"],
    ["peek nope", 3, "UNKNOWN_QUEUE"],
    ["purge nope", 3, "UNKNOWN_QUEUE"],
    ["redrive nope", 3, "UNKNOWN_QUEUE"],
    [`redrive ${q} --filter (`, 2, "--filter"],
    [`redrive ${q} --reason boredom`, 2, "delivery-limit"],
    ["consume --queue nope", 3, "UNKNOWN_QUEUE", "queue create"],
    [`consume --queue ${t}`, 3, "work subscriptions"],
    [`consume --queue ${t} --subscription nope`, 3, "UNKNOWN_SUBSCRIPTION"],
    [`consume ${t} --queue ${q}`, 2, "one of the two"],
    ["publish nope", 3, "UNKNOWN_TOPIC", "queue create"],
    ["publish --exchange nope", 3, "UNKNOWN_EXCHANGE", "exchange create"],
    [`publish --exchange ${x} --routing-key other --mandatory`, 1, "UNROUTABLE"],
    [`publish ${q} --priority 32`, 2, "0..31"],
    [`publish ${q} --delay 400d`, 2, "delay_ms"],
    [`publish ${q} --delay -5s`, 2, "--delay"],
    [`publish ${q} --ttl 400d`, 2, "ttl_ms"],
    ["exchange create amq.mine", 2, "amq."],
    [`exchange create ${x} --type fanout`, 1, "EXISTS_DIFFERENT", "type topic"],
    ["exchange create y --type round", 2, "consistent-hash"],
    ["exchange describe nope", 3, "UNKNOWN_EXCHANGE"],
    [`exchange update nope --alternate ${x}`, 3, "UNKNOWN_EXCHANGE"],
    [`exchange update ${x}`, 2, "--alternate"],
    [`exchange update amq.topic --alternate ${x}`, 1, "CONFLICT"],
    ["exchange delete nope", 3, "UNKNOWN_EXCHANGE", "exchange list"],
    ["exchange delete amq.topic", 1, "CONFLICT"],
    [`exchange delete ${x} --if-unused`, 1, "CONFLICT", "1 bindings"],
    [`binding create nope ${q}`, 3, "exchange"],
    [`binding create ${x} nope`, 3, "queue"],
    [`binding create ${x} nope --to-exchange`, 3, "exchange"],
    [`binding delete ${x} ${q} --routing-key other`, 3, "no such binding"],
    ["explain publish --exchange nope", 3, "UNKNOWN_EXCHANGE"],
    ["vhost create a/b", 2, "INVALID_NAME"],
    ["vhost describe nope", 3, "UNKNOWN_VHOST"],
    ["vhost delete nope", 3, "UNKNOWN_VHOST"],
    ["vhost delete /", 1, "CONFLICT"],
    ["policy set p ( --ttl 1s", 2, "regular expression"],
    ["policy set p a --ttl 1s --priority high", 2, "--priority"],
    ["policy describe nope", 3, "no policy"],
    ["policy delete nope", 3, "no policy"],
    [`schedule set s never --routing-key ${q} --body b`, 2, "cron"],
    ["schedule describe nope", 3, "no schedule"],
    ["schedule delete nope", 3, "no schedule"],
    [`subscription create nope w`, 3, "UNKNOWN_TOPIC"],
    [`subscription create ${q} w`, 3, "is a queue"],
    [`subscription create ${t} w --ttl 1s`, 1, "EXISTS_DIFFERENT", "ttlMs is unset, not 1000"],
    [`subscription describe ${t} nope`, 3, "UNKNOWN_SUBSCRIPTION"],
    [`subscription describe ${t} w --partition 7`, 3, "UNKNOWN_PARTITION"],
    [`subscription update ${t} nope --ttl 1s`, 3, "UNKNOWN_SUBSCRIPTION"],
    [`subscription update ${t} w`, 2, "nothing to change"],
    [`subscription seek ${t} nope --to earliest`, 3, "UNKNOWN_SUBSCRIPTION"],
    [`subscription seek ${t} w --to sometime`, 2, "--to"],
    [`subscription delete ${t} nope`, 3, "UNKNOWN_SUBSCRIPTION"],
    ["definitions import /nowhere.json", 2, "cannot be read"],
  ] as const;
  await sideBySide(mistakes, async ([args, code, ...texts]) => {
    const finished = await run(args, "line\n");
    const isRight = finished.code === code && texts.every((one) => finished.stderr.includes(one)) && !/\n +at /.test(finished.stderr);
    if (!isRight) wrong.push({ args, code: finished.code, stderr: finished.stderr });
  });
  expect(wrong).toEqual([]);
}, 180_000);

test("cli definitions: export and import", async () => {
  const [q, file] = [await queue({ ttlMs: 5_000 }), join(at.cluster.directory, "definitions.json")];
  await done(`definitions export --file ${file}`);
  await done(`queue delete ${q}`);
  expect((await run(`definitions import ${file}`)).stderr).toMatch(/created 1, unchanged \d+, not taken 0/);
  expect(await json(`queue describe ${q}`)).toMatchObject({ queue: { declared: { ttlMs: 5_000 } } });
  await writeFile(file, '{"queues":[{"name":"odd","vhost":"/","arguments":{"x-unheard-of":1}}]}');
  const { code, stderr } = await run(`definitions import ${file}`);
  expect([code, stderr]).toEqual([1, expect.stringContaining("x-unheard-of")]);
});

test("cli: every command about queues explains itself", async () => {
  const commands = [
    ["queue", ["create", "list", "describe", "update", "delete", "peek", "purge", "redrive", "revive"]],
    ["exchange", ["create", "list", "describe", "update", "delete"]],
    ["binding", ["create", "list", "delete"]],
    ["vhost", ["create", "list", "describe", "delete"]],
    ["policy", ["set", "list", "describe", "delete"]],
    ["schedule", ["set", "list", "describe", "delete"]],
    ["subscription", ["create", "list", "describe", "members", "update", "seek", "reset", "delete"]],
    ["definitions", ["export", "import"]],
    ["explain", ["publish"]],
  ] as const;
  await sideBySide(commands, async ([command, verbs]) => {
    const help = await done([command, "--help"]);
    for (const verb of verbs) expect(help, `${command} ${verb}`).toMatch(new RegExp(`^  ${verb} `, "m"));
  });
  const examples = ["queue create", "redrive", "exchange create", "exchange update", "binding create", "policy set", "schedule set"];
  await sideBySide(examples, async (command) =>
    expect(await done([...command.split(" "), "--help"]), command).toMatch(/Examples:\n {2}flotilla /),
  );
});
