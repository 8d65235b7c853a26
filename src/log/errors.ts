/** A file of the log is damaged in a way that a crash cannot explain: nothing of it may be trusted or thrown away. */
export class LogCorruptError extends Error {
  override readonly name = "LogCorruptError";
  readonly file: string;
  readonly position: number;

  constructor(file: string, position: number, what: string) {
    super(`${file} at byte ${position}: ${what}`);
    this.file = file;
    this.position = position;
  }
}

/** The file was written by a newer release. */
export class LogVersionError extends Error {
  override readonly name = "LogVersionError";

  constructor(file: string, version: number, known: number) {
    super(`${file} has format version ${version}, this release knows ${known}: start the newer release again`);
  }
}

export type LogReadCode = "TRIMMED" | "UNWRITTEN" | "CORRUPT";

/** An entry that cannot be read. TRIMMED: cut away; UNWRITTEN: on its way to the disk; CORRUPT: its checksum is wrong. */
export class LogReadError extends Error {
  override readonly name = "LogReadError";
  readonly code: LogReadCode;

  constructor(code: LogReadCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** What the log holds is not what was written, or the disk does not give it back: the group has to be fetched again from its other members. */
export function isDamage(error: Error): boolean {
  return !(error instanceof LogReadError && error.code !== "CORRUPT");
}
