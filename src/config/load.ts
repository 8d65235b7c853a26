// Settings of a node from, in rising order: defaults, one YAML file, FLOTILLA_* variables, flags.

import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { settingsSchema, SettingsError, type Settings } from "./settings.ts";

export type Sources = {
  /** Path of the YAML file; undefined = none. */
  readonly file?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** By setting name, as typed: numbers are still text. */
  readonly flags?: Readonly<Record<string, unknown>>;
};

const names = Object.keys(settingsSchema.shape);

/** Throws SettingsError that names the setting and its source. */
export function loadSettings(sources: Sources): Settings {
  const merged: Record<string, unknown> = {};
  const origin = new Map<string, string>();
  const take = (values: Readonly<Record<string, unknown>>, from: (name: string) => string): void => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) continue;
      if (!names.includes(name)) throw new SettingsError(`${from(name)}: there is no setting ${name}${nearest(name)}`);
      merged[name] = value;
      origin.set(name, from(name));
    }
  };
  if (sources.file !== undefined) take(readYaml(sources.file), () => sources.file!);
  take(fromEnv(sources.env ?? {}), (name) => variableOf(name));
  take(typed(sources.flags ?? {}), (name) => `--${kebab(name)}`);
  const result = settingsSchema.safeParse(merged);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const name = String(issue!.path[0] ?? "");
  throw new SettingsError(`${origin.get(name) ?? name}: ${name} ${issue!.message}`);
}

/** The variable of a setting: apiPort -> FLOTILLA_API_PORT. */
export function variableOf(name: string): string {
  return `FLOTILLA_${kebab(name).replaceAll("-", "_").toUpperCase()}`;
}

export function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function readYaml(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new SettingsError(`--config ${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new SettingsError(`${file} is not YAML: ${(error as Error).message}`, { cause: error });
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new SettingsError(`${file} must hold settings by name`);
  return value as Record<string, unknown>;
}

/** FLOTILLA_ENDPOINTS and others belong to the client commands and are left alone. */
function fromEnv(env: Readonly<Record<string, string | undefined>>): Record<string, unknown> {
  const values: Record<string, string> = {};
  for (const name of names) {
    const value = env[variableOf(name)];
    if (value !== undefined) values[name] = value;
  }
  return typed(values);
}

/** Text that a number setting was given becomes a number; anything else is for the schema to refuse. */
function typed(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  const sample = settingsSchema.parse({}) as Record<string, unknown>;
  for (const [name, value] of Object.entries(values)) {
    result[name] = typeof value === "string" && typeof sample[name] === "number" && /^-?\d+$/.test(value) ? Number(value) : value;
  }
  return result;
}

function nearest(name: string): string {
  const lower = name.toLowerCase().replaceAll(/[-_]/g, "");
  const hit =
    names.find((candidate) => candidate.toLowerCase() === lower) ??
    names.find((candidate) => candidate.toLowerCase().startsWith(lower.slice(0, 4)));
  return hit === undefined ? "" : `; did you mean ${hit}?`;
}
