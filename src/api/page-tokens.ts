import { BrokerError } from "../base/errors.ts";
import { PAGE_TOKEN_BYTES_MAX } from "../base/limits.ts";

/** A token is the last name of the page before, so that a page stays right while things come and go. */
export function tokenOf(place: string): string {
  return Buffer.from(place).toString("base64url");
}

export function placeOf(pageToken: string): string {
  if (pageToken.length > PAGE_TOKEN_BYTES_MAX)
    throw new BrokerError("INVALID_ARGUMENT", "page_token is not one that this call gave out", { field: "page_token" });
  return Buffer.from(pageToken, "base64url").toString();
}
