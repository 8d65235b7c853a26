// Everything that waits for a time, ends at one, or comes again: delays, recalls, schedules, times to live.

import { expect, test } from "vitest";
import { feature, headersOf, take, text } from "../../support/feature.ts";
import { until } from "../../support/until.ts";

const at = feature();
const YEAR_MS = 365 * 86_400_000;

test("delayed / timed messages: to the millisecond, in the order of their times, however they were published", async () => {
  const q = await at.queue();
  // Far enough ahead that all of them wait by then, however busy the machine is.
  const beganMs = Date.now() + 2_500;
  const offsets = [400, 100, 300, 200, 0];
  for (const offset of offsets) await at.client.publish(q, [{ body: String(offset), deliverAtMs: beganMs + offset }]);
  await at.client.publish(q, [{ body: "now" }]);
  await using consumer = await at.client.queueConsumer(q, { autoAck: true });
  expect(text((await consumer.next())!)).toBe("now");
  const seen: string[] = [];
  for (let index = 0; index < 5; index++) {
    const message = (await consumer.next())!;
    seen.push(text(message));
    expect(Date.now()).toBeGreaterThanOrEqual(beganMs + Number(text(message)));
  }
  expect(seen).toEqual(["0", "100", "200", "300", "400"]);
});

test("delayed / timed messages: up to a year, shown as such, kept through a change of leaders, and can be recalled", async () => {
  const q = await at.queue();
  const { offset } = await at.client.publish(q, [{ body: "next year", delayMs: YEAR_MS }]);
  await at.client.publish(q, [{ body: "at a time", deliverAtMs: Date.now() + YEAR_MS }]);
  const leader = await at.cluster.leaderOf(q, 0);
  await at.client.cluster.transferLeader({ topic: q, partition: 0, toNode: at.cluster.nodeIds.find((node) => node !== leader)! });
  const { messages } = await at.client.browse(q);
  expect(messages.map((message) => [text(message), message.state])).toEqual([
    ["next year", "delayed"],
    ["at a time", "delayed"],
  ]);
  expect(Math.abs(messages[0]!.untilMs - Date.now() - YEAR_MS)).toBeLessThan(60_000);
  expect(await at.client.receive(q)).toEqual([]);
  expect(await at.client.recall(q, offset)).toBe(true);
  expect((await at.client.browse(q)).messages.map(text)).toEqual(["at a time"]);
});

test("recurring schedules: cron with seconds, its own time zone, paused and set again; it says when it is due next", async () => {
  const q = await at.queue();
  const schedule = {
    name: at.name("s"),
    exchange: "",
    routingKey: q,
    record: { body: "tick", priority: 3, headers: [{ name: "h", value: Buffer.from("v") }] },
  };
  const daily = { ...schedule, cron: "30 4 * * *" };
  const hourOf = async (timeZone: string): Promise<number> =>
    new Date((await at.client.queues.setSchedule({ ...daily, timeZone })).nextMs).getUTCHours();
  expect(await hourOf("UTC")).toBe(4);
  expect(await hourOf("Asia/Kolkata")).toBe(23);
  expect(new Date((await at.client.queues.describeSchedule(schedule.name)).nextMs).getUTCMinutes()).toBe(0);
  const { nextMs } = await at.client.queues.setSchedule({ ...schedule, cron: "* * * * * *" });
  expect(nextMs - Date.now()).toBeLessThan(1_500);
  await using consumer = await at.client.queueConsumer(q, { autoAck: true });
  const [first, second] = await take(consumer, 2);
  expect([text(first!), first!.priority, headersOf(first!)]).toMatchObject(["tick", 3, { h: "v" }]);
  expect(Math.floor(second!.storedMs / 1_000) - Math.floor(first!.storedMs / 1_000)).toBeGreaterThanOrEqual(1);
  await at.client.queues.setSchedule({ ...schedule, cron: "* * * * * *", paused: true });
  const { endOffset } = await at.client.queues.describeQueue(q);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect((await at.client.queues.describeQueue(q)).endOffset).toBeLessThanOrEqual(endOffset + 1);
  await at.client.queues.deleteSchedule(schedule.name);
});

test("message TTL: the shorter of the message's and the queue's; in time it is gone, or a dead letter that says so", async () => {
  const dead = await at.queue();
  const q = await at.queue({ ttlMs: 800, deadLetterExchange: "", deadLetterKey: dead });
  await at.client.publish(q, [{ body: "own", ttlMs: 200 }, { body: "queue's" }, { body: "longer", ttlMs: 60_000 }]);
  const letters: string[] = [];
  await using consumer = await at.client.queueConsumer(dead, { autoAck: true });
  for (const message of await take(consumer, 3)) {
    letters.push(text(message));
    expect(headersOf(message)).toMatchObject({ "x-death-reason": "expired", "x-death-queue": q, "x-death-attempts": "0" });
  }
  expect(letters[0]).toBe("own");
  expect(letters.sort()).toEqual(["longer", "own", "queue's"]);
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ ready: 0, dead: 0 });
});

test("message TTL: it begins when the message could be delivered first, and one that is held does not expire under its consumer", async () => {
  const q = await at.queue();
  await at.client.publish(q, [{ body: "later", delayMs: 700, ttlMs: 500 }]);
  await using consumer = await at.client.queueConsumer(q);
  const message = (await consumer.next())!;
  await new Promise((resolve) => setTimeout(resolve, 900));
  await message.ack();
  await at.client.publish(q, [{ body: "back", ttlMs: 300 }]);
  const held = (await consumer.next())!;
  await new Promise((resolve) => setTimeout(resolve, 500));
  await held.nack();
  await until("it has expired when it comes back", async () => {
    const { counts } = (await at.client.queues.describeQueue(q)).queue;
    return counts!.ready + counts!.leased + counts!.delayed + counts!.dead === 0;
  });
});

test("message TTL: of a queue it can be changed, and a policy can say it; what was there before keeps its own", async () => {
  const prefix = at.name("tmp");
  await at.client.queues.setPolicy({ name: prefix, pattern: `^${prefix}`, settings: { ttlMs: 300 } });
  await at.client.queues.createQueue({ name: `${prefix}.q` });
  await at.client.publish(`${prefix}.q`, [{ body: "short" }]);
  await at.client.queues.updateQueue(`${prefix}.q`, { settings: { ttlMs: 0 } });
  await at.client.publish(`${prefix}.q`, [{ body: "long" }]);
  await until("the first one has expired", async () => (await at.client.browse(`${prefix}.q`)).messages.map(text).join() === "long");
  await at.client.queues.deletePolicy(prefix);
});

test("message lease, extend, expiry: each message by itself, to the deadline that it was told", async () => {
  const q = await at.queue();
  await at.client.publish(q, [{ body: "1" }, { body: "2" }]);
  const [first, second] = await at.client.receive(q, { maxMessages: 2, leaseMs: 1_000 });
  expect(Math.abs(first!.deadlineMs - Date.now() - 1_000)).toBeLessThan(900);
  await first!.extend(60_000);
  await until("the other one waits again", async () => (await at.client.browse(q)).messages[1]!.state === "ready");
  const [held, back] = (await at.client.browse(q)).messages;
  expect([held!.state, back!.state, back!.attempts]).toEqual(["leased", "ready", 1]);
  expect(held!.untilMs - Date.now()).toBeGreaterThan(50_000);
  await expect(second!.ack()).rejects.toMatchObject({ code: "LEASE_LOST" });
  await expect(second!.extend(5_000)).rejects.toMatchObject({ code: "LEASE_LOST" });
  await first!.ack();
});
