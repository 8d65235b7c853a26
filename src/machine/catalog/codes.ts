// Replies of the catalog.

export const CATALOG_OK = 0;
/** The topic exists with the very same settings: declaring it again is no error. */
export const CATALOG_EXISTS_SAME = 1;
export const CATALOG_EXISTS_DIFFERENT = 2;
export const CATALOG_INVALID_NAME = 3;
export const CATALOG_UNKNOWN_TOPIC = 4;
export const CATALOG_UNKNOWN_NODE = 5;
export const CATALOG_TOO_MANY = 6;
/** Somebody else changed the same thing first. */
export const CATALOG_CONFLICT = 7;
export const CATALOG_STORE_MISMATCH = 8;
export const CATALOG_BAD_COMMAND = 9;
export const CATALOG_UNKNOWN_GROUP = 10;
/** There is no such vhost, exchange, binding, policy, schedule or subscription. */
export const CATALOG_UNKNOWN_OBJECT = 11;
