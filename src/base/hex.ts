// Bytes as text of base 16, for what is stored as JSON.

export function hexEncode(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** What is no pair of digits counts as 0. */
export function hexDecode(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length >> 1);
  for (let at = 0; at < bytes.length; at++) bytes[at] = Number.parseInt(text.slice(at * 2, at * 2 + 2), 16) || 0;
  return bytes;
}
