/** Where every machine begins: what is in the log before its first change of rules was applied by these. */
export const FIRST_VERSION = 1;
/**
 * The newest version of the rules that this release knows, of all machines together. Who changes what an entry does raises it,
 * and keeps applying by the old rules below it.
 */
export const RULES_VERSION = 1;
