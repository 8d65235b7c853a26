/**
 * The list of who has nothing to list: one for all, where there are thousands of owners and most of them are at rest.
 * Frozen, so who adds makes a list of its own first.
 */
export const NOTHING: never[] = Object.freeze([]) as unknown as never[];
