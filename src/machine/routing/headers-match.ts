// Bindings of a headers exchange (AMQP 0-9-1, section 3.1.3.4; RabbitMQ's x-match values).

export type HeaderValue = string | number | boolean | null;

export type HeadersBinding = {
  /** With "X", headers whose names begin with "x-" count too. */
  readonly match: "all" | "any" | "allX" | "anyX";
  /** Null asks only that the header is there. */
  readonly headers: ReadonlyMap<string, HeaderValue>;
};

export function matchesHeaders({ match, headers: wanted }: HeadersBinding, headers: ReadonlyMap<string, HeaderValue>): boolean {
  const isAll = match === "all" || match === "allX";
  const countsX = match === "allX" || match === "anyX";
  for (const [name, value] of wanted) {
    if (!countsX && name.startsWith("x-")) continue;
    const isThere = headers.has(name) && (value === null || headers.get(name) === value);
    if (isThere !== isAll) return !isAll;
  }
  // All of them, or none: with nothing asked for, "all" matches everything and "any" nothing.
  return isAll;
}
