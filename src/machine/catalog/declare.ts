// The command that declares, changes and removes what is no topic and no node, as JSON.

import { DecodeError } from "../../base/bytes.ts";
import type { GroupId } from "../../base/ids.ts";
import { WORKS_PER_STREAM_MAX } from "../../base/limits.ts";
import { isName, quoted } from "../names.ts";
import {
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_TOO_MANY,
  CATALOG_UNKNOWN_OBJECT,
} from "./codes.ts";
import {
  workRow,
  type BindingRow,
  type ExchangeRow,
  type PolicyRow,
  type ScheduleRow,
  type VhostRow,
  type WorkRow,
} from "./declaration-rows.ts";
import { parseRow } from "./declarations.ts";
import { refuse, type Outcome } from "./outcome.ts";
import { sameConfig, type ConfigRow, type TopicRow } from "./rows.ts";
import { declared, differences, sameDeclared, type DeclaredSettings } from "./settings.ts";

export type Declare =
  | { readonly do: "createVhost"; readonly row: VhostRow }
  | { readonly do: "deleteVhost"; readonly name: string }
  | { readonly do: "createExchange"; readonly row: ExchangeRow }
  | { readonly do: "updateExchange"; readonly vhost: string; readonly name: string; readonly alternate: string }
  | { readonly do: "deleteExchange"; readonly vhost: string; readonly name: string; readonly ifUnused: boolean }
  | { readonly do: "createBinding" | "deleteBinding"; readonly row: BindingRow }
  | { readonly do: "setPolicy"; readonly row: PolicyRow }
  | { readonly do: "setSchedule"; readonly row: ScheduleRow }
  | { readonly do: "deletePolicy" | "deleteSchedule"; readonly vhost: string; readonly name: string }
  | { readonly do: "createWork"; readonly vhost: string; readonly name: string; readonly row: WorkRow }
  | { readonly do: "alterWork"; readonly vhost: string; readonly name: string; readonly work: string; readonly settings: DeclaredSettings }
  | { readonly do: "deleteWork"; readonly vhost: string; readonly name: string; readonly work: string }
  | { readonly do: "alterQueue"; readonly vhost: string; readonly name: string; readonly settings: DeclaredSettings }
  /** The queue of this group: not one that was declared under its name since. */
  | { readonly do: "deleteQueue"; readonly vhost: string; readonly name: string; readonly group: GroupId };

export function writeDeclare(declare: Declare): string {
  return JSON.stringify(declare);
}

/** Throws DecodeError on what is no declaration of this release. */
export function parseDeclare(text: string): Declare {
  const declare = parseRow<Partial<Record<string, unknown>> | null>(text);
  if (declare === null || typeof declare !== "object" || typeof declare["do"] !== "string") throw new DecodeError("no declaration");
  for (const field of ["row", "settings"])
    if (field in declare && (typeof declare[field] !== "object" || declare[field] === null)) throw new DecodeError(`no ${field}`);
  return declare as unknown as Declare;
}

/** The topic with what the declaration changes about its work subscriptions or its settings as a queue; or why it cannot be. */
export function changedTopic(
  topic: TopicRow,
  declare: Extract<Declare, { do: "createWork" | "alterWork" | "deleteWork" | "alterQueue" }>,
): TopicRow | Outcome {
  if (declare.do === "alterQueue") {
    if (topic.queue === null) return refuse(CATALOG_CONFLICT, `${topic.name} is a topic, not a queue`);
    return { ...topic, queue: declared(declare.settings) };
  }
  if (topic.queue !== null) return refuse(CATALOG_CONFLICT, `${topic.name} is a queue: it is its own subscription`);
  const name = declare.do === "createWork" ? declare.row.name : declare.work;
  const known = topic.works.find((work) => work.name === name);
  if (declare.do === "createWork") return createdWork(topic, workRow({ ...declare.row, partitions: topic.partitions.length }), known);
  if (known === undefined) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no work subscription ${quoted(name)} of topic ${topic.name}`);
  if (declare.do === "deleteWork") return { ...topic, works: topic.works.filter((work) => work !== known) };
  const altered = workRow({ ...known, settings: declare.settings });
  return { ...topic, works: topic.works.map((work) => (work === known ? altered : work)) };
}

function createdWork(topic: TopicRow, row: WorkRow, known: WorkRow | undefined): TopicRow | Outcome {
  if (!isName(row.name)) return refuse(CATALOG_INVALID_NAME, `${quoted(row.name)} is not the name of a subscription`);
  if (known !== undefined && sameDeclared(known.settings, row.settings)) return refuse(CATALOG_EXISTS_SAME, "");
  if (known !== undefined) {
    const others = differences(known.settings, row.settings).join("; ");
    return refuse(CATALOG_EXISTS_DIFFERENT, `work subscription ${row.name} exists with other settings: ${others}`);
  }
  if (topic.works.length >= WORKS_PER_STREAM_MAX)
    return refuse(CATALOG_TOO_MANY, `a topic may have ${WORKS_PER_STREAM_MAX} work subscriptions`);
  return { ...topic, works: [...topic.works, row].sort((a, b) => (a.name < b.name ? -1 : 1)) };
}

/** In which ways the queue that is there is not the one that was asked for. */
export function otherQueue(known: TopicRow, wanted: { replicas: number; config: ConfigRow; queue: DeclaredSettings }): string {
  const others = differences(known.queue!, wanted.queue);
  if (known.replicas !== wanted.replicas) others.unshift(`replicas is ${known.replicas}, not ${wanted.replicas}`);
  if (!sameConfig(known.config, wanted.config)) others.push("its durability is another one");
  return `queue ${known.name} exists with other settings: ${others.join("; ")}`;
}

export function isOutcome(result: TopicRow | Outcome): result is Outcome {
  return "code" in result;
}
