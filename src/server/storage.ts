// What a node keeps on its disk, opened: the store and the two logs beside it. What of it is damaged as a whole is LostError.

import { join } from "node:path";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/prng.ts";
import type { Settings } from "../config/settings.ts";
import { LogCorruptError } from "../log/errors.ts";
import { segmentNumber } from "../log/segment.ts";
import { SegmentLog } from "../log/segment-log.ts";
import { SegmentRows } from "../log/segment-rows.ts";
import { LOG_CATALOG, LOG_DATA, segmentKeys, type LogId } from "../store/keys.ts";
import { StoreDamagedError } from "../store/kv.ts";
import type { Closers } from "./closers.ts";
import type { NodeEnvironment, NodeStore } from "./environment.ts";
import { LostError } from "./set-aside.ts";

/** The catalog's log is small: a few rows per topic. */
const CATALOG_SEGMENT_BYTES = 8 * 1024 * 1024;

export type StorageComponents = {
  readonly environment: NodeEnvironment;
  readonly logger: Logger;
  readonly random: Random;
  /** What is opened is closed with these, also when what comes after it cannot be opened. */
  readonly parts: Closers;
  /** The node has begun its work with what lies here. */
  readonly isBegun: boolean;
  /** No other node has any of it. */
  readonly isOnlyCopy: boolean;
};

export type Storage = { readonly kv: NodeStore; readonly catalogLog: SegmentLog; readonly dataLog: SegmentLog };

export async function openStorage(settings: Settings, components: StorageComponents): Promise<Storage> {
  const kv = await openStore(settings, components);
  const catalogBytes = Math.min(CATALOG_SEGMENT_BYTES, settings.segmentBytes);
  const catalogLog = await openLog({ name: "catalog", id: LOG_CATALOG, segmentBytes: catalogBytes }, kv, settings, components);
  const dataLog = await openLog({ name: "log", id: LOG_DATA, segmentBytes: settings.segmentBytes }, kv, settings, components);
  return { kv, catalogLog, dataLog };
}

async function openStore({ dataDir }: Settings, { environment, parts }: StorageComponents): Promise<NodeStore> {
  try {
    const kv = await environment.openStore(join(dataDir, "store"));
    parts.add(() => kv.close());
    return kv;
  } catch (error) {
    throw error instanceof StoreDamagedError ? new LostError("store", error) : error;
  }
}

async function openLog(
  { name, id, segmentBytes }: { readonly name: "catalog" | "log"; readonly id: LogId; readonly segmentBytes: number },
  kv: NodeStore,
  { dataDir }: Settings,
  { environment: { disk }, logger, random, parts, isBegun, isOnlyCopy }: StorageComponents,
): Promise<SegmentLog> {
  const directory = join(dataDir, name);
  const keys = segmentKeys(id);
  try {
    if (!(await disk.list(directory)).some((file) => segmentNumber(file) >= 0)) {
      if (isBegun) throw new LogCorruptError(directory, 0, "all segment files are missing");
      // What was set aside takes its rows along.
      await new SegmentRows(kv, keys).forgetAll();
    }
    const log = await SegmentLog.open({ directory, segmentBytes, isOnlyCopy, isBegun }, { disk, store: kv, keys, random, logger });
    parts.add(() => log.close());
    return log;
  } catch (error) {
    if (error instanceof StoreDamagedError) throw new LostError("store", error);
    throw error instanceof LogCorruptError ? new LostError(name, error) : error;
  }
}
