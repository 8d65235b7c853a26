import { expect, test } from "vitest";
import { isInPlace, nextStep, type LeaderView, type Members } from "../../src/broker/membership.ts";
import { enterJoint, leaveJoint, simpleChange } from "../../src/raft/membership.ts";
import {
  PROGRESS_PROBE,
  PROGRESS_REPLICATE,
  type Configuration,
  type ConfigurationChange,
  type PeerId,
  type ProgressStatus,
} from "../../src/raft/types.ts";

const configuration = (voters: PeerId[], learners: PeerId[] = []): Configuration => ({
  voters,
  votersOutgoing: [],
  learners,
  learnersNext: [],
  autoLeave: false,
});

/** A leader of a log of 1,000 entries; `behind` lack most of it. */
function view(self: PeerId, members: Configuration, behind: readonly PeerId[] = []): LeaderView {
  const progress = [...members.voters, ...members.learners].map((peer): ProgressStatus => ({
    peer,
    state: behind.includes(peer) ? PROGRESS_PROBE : PROGRESS_REPLICATE,
    match: behind.includes(peer) ? 10 : 1_000,
    next: 1_001,
    learner: members.learners.includes(peer),
    recentActive: true,
    paused: false,
    inflight: 0,
    inflightFull: false,
    pendingSnapshot: 0,
  }));
  return { self, configuration: members, lastIndex: 1_000, progress };
}

function applied(before: Configuration, { changes, transition }: ConfigurationChange): Configuration {
  const simple = simpleChange(before, changes);
  if (simple.configuration !== null) return simple.configuration;
  const joint = enterJoint(before, changes, transition !== "jointExplicit").configuration!;
  return leaveJoint(joint).configuration!;
}

/** Plays the leader's part until nothing is left to do; everybody catches up at once. Returns all configurations. */
function play(start: Configuration, leader: PeerId, target: Members): { steps: string[]; end: Configuration } {
  let now = start;
  let self = leader;
  const steps: string[] = [];
  for (let round = 0; round < 10; round++) {
    const step = nextStep(view(self, now), target);
    if (step === null) break;
    if (step.kind === "transfer") {
      self = step.to;
      steps.push(`leader ${self}`);
    } else {
      now = applied(now, step.change);
      steps.push(`${now.voters.join(",")}|${now.learners.join(",")}`);
    }
  }
  return { steps, end: now };
}

const cases: readonly { name: string; start: Configuration; leader: PeerId; target: Members; steps: string[] }[] = [
  {
    name: "a follower is replaced",
    start: configuration([1, 2, 3]),
    leader: 1,
    target: { voters: [1, 2, 4], learners: [] },
    steps: ["1,2,3|4", "1,2,4|"],
  },
  {
    name: "the leader is replaced: first it hands over",
    start: configuration([1, 2, 3]),
    leader: 3,
    target: { voters: [1, 2, 4], learners: [] },
    steps: ["1,2,3|4", "1,2,3,4|", "leader 1", "1,2,4|"],
  },
  {
    name: "all move away",
    start: configuration([1, 2, 3]),
    leader: 1,
    target: { voters: [4, 5, 6], learners: [] },
    steps: ["1,2,3|4,5,6", "1,4,5,6|", "leader 4", "4,5,6|"],
  },
  { name: "more", start: configuration([1]), leader: 1, target: { voters: [1, 2, 3], learners: [] }, steps: ["1|2,3", "1,2,3|"] },
  { name: "fewer", start: configuration([1, 2, 3]), leader: 1, target: { voters: [1], learners: [] }, steps: ["1|"] },
  {
    name: "a learner takes the place of a voter that is to learn",
    start: configuration([1, 2, 3], [4]),
    leader: 1,
    target: { voters: [1, 2, 4], learners: [3] },
    steps: ["1,2,4|3"],
  },
  {
    name: "a learner that nobody wants goes",
    start: configuration([1, 2, 3], [9]),
    leader: 1,
    target: { voters: [1, 2, 3], learners: [] },
    steps: ["1,2,3|"],
  },
  {
    name: "the successor of a learner that was lost comes in its place",
    start: configuration([1, 2, 3], [9, 10]),
    leader: 1,
    target: { voters: [1, 2, 11], learners: [] },
    steps: ["1,2,3|11", "1,2,11|"],
  },
];

test.each(cases)("membership: $name", ({ start, leader, target, steps }) => {
  const played = play(start, leader, target);
  expect(played.steps).toEqual(steps);
  expect(isInPlace(played.end, target)).toBe(true);
});

test("membership: who has not caught up is waited for, and nobody goes before", () => {
  const target = { voters: [1, 2, 4], learners: [] };
  expect(nextStep(view(1, configuration([1, 2, 3], [4]), [4]), target)).toBeNull();
});

test("membership: a leader that is to go waits for an heir that has everything", () => {
  const target = { voters: [1, 2], learners: [] };
  expect(nextStep(view(3, configuration([1, 2, 3]), [1, 2]), target)).toBeNull();
  expect(nextStep(view(3, configuration([1, 2, 3]), [1]), target)).toEqual({ kind: "transfer", to: 2 });
});

test("membership: nothing is changed while a change is under way", () => {
  const joint = { ...configuration([1, 2, 4]), votersOutgoing: [1, 2, 3] };
  expect(nextStep(view(1, joint), { voters: [1, 2, 5], learners: [] })).toBeNull();
  expect(isInPlace(joint, { voters: [1, 2, 4], learners: [] })).toBe(false);
});
