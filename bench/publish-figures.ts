// What is wanted of the throughput bench: rates against the peers of the same run, latencies, and what the machine allows.

import { ofRounds, type Figure, type Wanted } from "./figures.ts";
import { AT_HALF, REPLAY, SEQUENTIAL, type Load } from "./measure.ts";
import { advantage, ceilingText, writtenPerByte, type Report } from "./report.ts";
import { spread, type Spread } from "./spread.ts";

/** Times the better peer, by the size of a message. */
const PUBLISH_TIMES: ReadonlyMap<number, number> = new Map([
  [128, 25],
  [1_024, 9],
  [16_384, 2.2],
]);
const UNBATCHED_TIMES = 2;
/** Of RabbitMQ's. */
const SEQUENTIAL_P50_PART = 0.7;
const HALF_P99_MS = 5;
const REPLAY_MB_PER_SECOND = 300;
/** Of what the parts of the machine allow. */
const CEILING_PART = 0.5;
const WRITTEN_PER_BYTE = 1.1;

/** Those that need a peer are there when one was asked for, installed or not: what could not be compared is not met. */
export function publishFigures(report: Report, against: readonly string[]): Figure[] {
  return report.points
    .filter(({ system }) => system === "flotilla")
    .flatMap((point): Figure[] => {
      const { scenario, load } = point;
      if (load !== undefined)
        return [...(against.length > 0 ? [timesThePeers(report, scenario, load)] : []), ...ofTheMachine(report, scenario, load)];
      if (scenario === `${SEQUENTIAL}, p50`) return against.includes("rabbitmq") ? [partOfRabbitmq(report, scenario)] : [];
      if (scenario.endsWith(`${AT_HALF}, p99`))
        return [{ name: scenario, unit: "ms", ...ofRounds(point), wanted: { atMost: HALF_P99_MS } }];
      if (scenario === REPLAY) return [{ name: scenario, unit: "MB/s", ...ofRounds(point), wanted: { atLeast: REPLAY_MB_PER_SECOND } }];
      return [];
    });
}

function timesThePeers(report: Report, scenario: string, { bytes, unbatched }: Load): Figure {
  const times = unbatched ? UNBATCHED_TIMES : PUBLISH_TIMES.get(bytes);
  return compared(`${scenario}: times the better peer`, advantage(report, scenario), times === undefined ? null : { atLeast: times });
}

function partOfRabbitmq(report: Report, scenario: string): Figure {
  const better = advantage(report, scenario, ["rabbitmq"]);
  const part = better === null ? null : { median: 1 / better.median, min: 1 / better.max, max: 1 / better.min };
  return compared(`${scenario}: of RabbitMQ's`, part, { atMost: SEQUENTIAL_P50_PART });
}

function compared(name: string, value: Spread | null, wanted: Wanted | null): Figure {
  if (value === null) return { name, unit: "", measured: null, wanted, note: "no peer to compare with" };
  return { name, unit: "", ...ofRounds(value), wanted };
}

function ofTheMachine(report: Report, scenario: string, { bytes, unbatched }: Load): Figure[] {
  const { rounds, costs } = report.points.find((point) => point.system === "flotilla" && point.scenario === scenario)!;
  if (unbatched) return [];
  if (bytes >= 16_384) {
    const part = spread(rounds.map((rate) => (rate * bytes) / report.ceiling.payloadBytesPerSecond));
    const note = ceilingText(report.ceiling);
    return [{ name: `${scenario}: of the ceiling`, unit: "", ...ofRounds(part), wanted: { atLeast: CEILING_PART }, note }];
  }
  if (bytes !== 1_024) return [];
  const written = spread(costs!.map(writtenPerByte));
  const name = `${scenario}: bytes written per payload byte and replica`;
  return [{ name, unit: "", ...ofRounds(written), wanted: { atMost: WRITTEN_PER_BYTE } }];
}
