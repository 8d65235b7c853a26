import { describe, expect, test } from "vitest";
import { EMPTY_CONFIGURATION, enterJoint, leaveJoint, membersOf, simpleChange, type MembershipResult } from "../../src/raft/membership.ts";
import type { Configuration } from "../../src/raft/types.ts";
import { changesOf, describeConfiguration } from "./describe.ts";
import { directivesOf, filesIn, vectors, type Directive } from "./datadriven.ts";

/** Runs one file: the configuration, and at which command each member's progress was made. */
class Changer {
  configuration: Configuration = EMPTY_CONFIGURATION;
  private readonly madeAt = new Map<number, number>();
  private commands = 0;

  run({ command, args, input }: Directive): string[] {
    const changes = changesOf(input.join(" "));
    const result: MembershipResult =
      command === "simple"
        ? simpleChange(this.configuration, changes)
        : command === "enter-joint"
          ? enterJoint(this.configuration, changes, args.get("autoleave")?.[0] === "true")
          : leaveJoint(this.configuration);
    const at = this.commands++;
    if (result.configuration === null) return [result.error];
    this.configuration = result.configuration;
    const members = membersOf(this.configuration);
    for (const peer of members) if (!this.madeAt.has(peer)) this.madeAt.set(peer, at);
    for (const peer of this.madeAt.keys()) if (!members.includes(peer)) this.madeAt.delete(peer);
    // A member's progress begins at the end of the log; the files count one entry per command.
    const progress = members.map(
      (peer) =>
        `${peer}: StateProbe match=0 next=${Math.max(this.madeAt.get(peer)!, 1)}${this.configuration.learners.includes(peer) ? " learner" : ""}`,
    );
    return [describeConfiguration(this.configuration), ...progress];
  }
}

describe.skipIf(vectors === undefined)("vectors: confchange", () => {
  test.each(filesIn("confchange"))("%s", (file) => {
    const changer = new Changer();
    for (const directive of directivesOf("confchange", file))
      expect(changer.run(directive), `line ${directive.line}`).toEqual(directive.expected);
  });
});
