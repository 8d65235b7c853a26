// Which settings are in force for a queue: its own, then those of the policy that fits its name and counts most, then the defaults.

import { RE2JS } from "re2js";
import { BrokerError } from "../../base/errors.ts";
import { POLICY_PATTERN_LENGTH_MAX } from "../../base/limits.ts";
import type { CatalogMachine, TopicRow } from "../../machine/catalog/catalog.ts";
import type { PolicyRow } from "../../machine/catalog/declaration-rows.ts";
import { keyOf } from "../../machine/catalog/declarations.ts";
import { isReserved } from "../reserved.ts";
import { effective, type DeclaredSettings, type WorkSettings } from "../../machine/catalog/settings.ts";

export class Policies {
  private readonly catalog: CatalogMachine;
  /** Made from the catalog of this version. */
  private version = -1;
  /** By vhost, the most important first. */
  private compiled = new Map<string, { readonly row: PolicyRow; readonly pattern: RE2JS }[]>();

  constructor(catalog: CatalogMachine) {
    this.catalog = catalog;
  }

  /** Work subscriptions of a topic are theirs alone: policies are for queues. */
  settingsOf(topic: TopicRow, declared: DeclaredSettings): WorkSettings {
    return effective(declared, topic.queue === null ? {} : (this.of(topic)?.settings ?? {}));
  }

  /** The policy of a queue. */
  of(topic: TopicRow): PolicyRow | null {
    if (this.catalog.declarations.policies.size === 0 || isReserved(topic.name)) return null;
    for (const { row, pattern } of this.ofVhost(topic.vhost)) if (pattern.matcher(topic.name).find()) return row;
    return null;
  }

  private ofVhost(vhost: string): readonly { readonly row: PolicyRow; readonly pattern: RE2JS }[] {
    if (this.version !== this.catalog.viewVersion) {
      this.version = this.catalog.viewVersion;
      this.compiled = new Map();
    }
    let policies = this.compiled.get(vhost);
    if (policies === undefined) {
      policies = [...this.catalog.declarations.policies.of(keyOf(vhost, ""))].map((row) => ({ row, pattern: compile(row.pattern) }));
      policies.sort((a, b) => b.row.priority - a.row.priority || (a.row.name < b.row.name ? -1 : 1));
      this.compiled.set(vhost, policies);
    }
    return policies;
  }
}

/** Throws INVALID_ARGUMENT on what is no pattern. */
export function checkPattern(pattern: string): void {
  if (pattern.length > POLICY_PATTERN_LENGTH_MAX)
    throw new BrokerError("INVALID_ARGUMENT", `pattern must have at most ${POLICY_PATTERN_LENGTH_MAX} characters`, { field: "pattern" });
  try {
    RE2JS.compile(pattern);
  } catch (error) {
    throw new BrokerError("INVALID_ARGUMENT", `pattern is no regular expression (RE2): ${(error as Error).message}`, { field: "pattern" });
  }
}

/** One that an earlier release took and this one cannot matches nothing. */
function compile(pattern: string): RE2JS {
  try {
    return RE2JS.compile(pattern);
  } catch {
    return RE2JS.compile("[^\\x00-\\x{10FFFF}]");
  }
}
