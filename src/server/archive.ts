// Where a node archives what retention trims: a folder of its data.

import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { Settings } from "../config/settings.ts";
import { ArchiveFiles, type Archive } from "../log/archive-files.ts";
import type { NodeEnvironment } from "./environment.ts";

export function archiveOf(settings: Settings, { disk, clock }: Pick<NodeEnvironment, "disk" | "clock">): Archive {
  const { dataDir, diskWatermarkBytes, clusterId, nodeId } = settings;
  return new ArchiveFiles(
    { directory: join(dataDir, "archive"), watermarkBytes: diskWatermarkBytes, clusterId, nodeId },
    { disk, clock, crc32 },
  );
}
