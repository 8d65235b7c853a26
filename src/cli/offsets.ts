import { Command } from "commander";
import { instant, print, session, whole, withOutput, type SessionOptions } from "./session.ts";

type OffsetsOptions = SessionOptions & { partition?: number; group?: string; time?: number };

/** `flotilla offsets`: where the partitions of a topic begin and end, and where a subscription or a point in time is. */
export function offsetsCommand(): Command {
  return withOutput(new Command("offsets").argument("<topic>"))
    .description("first and end offsets of each partition; with --group also what is committed")
    .option("--partition <n>", "this partition only", whole(0, 999))
    .option("--group <name>", "also the committed offset and the lag of this subscription")
    .option("--time <time>", "also the first offset stored at or after this time (ISO 8601, or ms as @1767225600000)", instant)
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla offsets logs\n  flotilla offsets logs --group billing --output json\n  flotilla offsets logs --time 2026-01-31T12:00:00Z",
    )
    .action((topic: string, options: OffsetsOptions) =>
      session(options, async (client) => {
        const { partition, group, time } = options;
        const offsets = await client.getOffsets(topic, {
          vhost: options.vhost,
          ...(partition === undefined ? {} : { partitions: [partition] }),
          ...(group === undefined ? {} : { subscription: group }),
          ...(time === undefined ? {} : { timeMs: time }),
        });
        const rows = offsets.map(({ partition: number, startOffset, endOffset, committedOffset, timeOffset, error }) => ({
          partition: number,
          startOffset,
          endOffset,
          records: endOffset - startOffset,
          ...(group === undefined ? {} : { committedOffset, lag: endOffset - Math.max(committedOffset ?? 0, startOffset) }),
          ...(time === undefined ? {} : { timeOffset }),
          error: error?.reason ?? "",
        }));
        const columns = ["partition", "startOffset", "endOffset", "records"];
        if (group !== undefined) columns.push("committedOffset", "lag");
        if (time !== undefined) columns.push("timeOffset");
        print(rows, [...columns, "error"], options);
        if (rows.some(({ error }) => error !== "")) process.exitCode = 1;
      }),
    );
}
