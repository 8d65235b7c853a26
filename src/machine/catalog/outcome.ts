import { CATALOG_OK } from "./codes.ts";

/** What became of a command. `value`: the reply's, where the command has one; else it is the version of the view. */
export type Outcome = { readonly code: number; readonly detail: string; readonly value?: number };

export const DONE: Outcome = { code: CATALOG_OK, detail: "" };

export function refuse(code: number, detail: string, value?: number): Outcome {
  return value === undefined ? { code, detail } : { code, detail, value };
}
