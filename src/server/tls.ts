import { readFileSync } from "node:fs";
import { SettingsError, type Settings } from "../config/settings.ts";

/** PEM contents for both ports, or undefined without TLS. */
export function tlsFilesOf(settings: Settings): { cert: Buffer; key: Buffer; ca: Buffer } | undefined {
  const { tlsCertFile, tlsKeyFile, tlsCaFile } = settings;
  if (tlsCertFile === "" && tlsKeyFile === "" && tlsCaFile === "") return undefined;
  if (tlsCertFile === "" || tlsKeyFile === "" || tlsCaFile === "")
    throw new SettingsError("tlsCertFile, tlsKeyFile and tlsCaFile must be set together");
  return { cert: readFileSync(tlsCertFile), key: readFileSync(tlsKeyFile), ca: readFileSync(tlsCaFile) };
}
