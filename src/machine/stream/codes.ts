/** Replies of the stream machine. */
export const STREAM_OK = 0;
/** Stored by an earlier try; the value is the offset it got, or -1 when that is no longer known. */
export const STREAM_DUPLICATE = 1;
export const STREAM_OUT_OF_SEQUENCE = 2;
export const STREAM_FENCED = 3;
export const STREAM_PRODUCER_UNKNOWN = 4;
export const STREAM_OFFSET_OUT_OF_RANGE = 5;
export const STREAM_WOULD_GO_BACK = 6;
export const STREAM_TOO_MANY_CURSORS = 7;
export const STREAM_BAD_COMMAND = 8;
/** A bound of a queue or subscription is reached, and it is to refuse what comes then. */
export const STREAM_FULL = 9;
export const STREAM_GROUP_UNKNOWN = 10;
/** A group that is to be deleted has members. */
export const STREAM_GROUP_IN_USE = 11;
/** Too much is to be known of transactions at one time. */
export const STREAM_BUSY = 12;
