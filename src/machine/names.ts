import { NAME_LENGTH_MAX } from "../base/limits.ts";

/** Characters of a text from outside that a reply's detail repeats. */
const QUOTED_LENGTH_MAX = 64;

/** A topic, subscription or vhost name: 1..NAME_LENGTH_MAX of A-Z a-z 0-9 . _ - */
export function isName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && /^[A-Za-z0-9._-]+$/.test(text);
}

export function isVhost(text: string): boolean {
  return text === "/" || isName(text);
}

/** For the detail of a reply: escaped, and cut short whatever was sent. */
export function quoted(text: string): string {
  return JSON.stringify(text.slice(0, QUOTED_LENGTH_MAX));
}
