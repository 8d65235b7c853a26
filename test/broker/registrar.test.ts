import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { Registrar } from "../../src/broker/registrar.ts";
import type { ProposeOutcome, Router } from "../../src/broker/router.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { encodeJoinNode, encodeRegisterNode } from "../../src/machine/catalog/commands.ts";
import { nodeRow } from "../machine/entries.ts";
import { MachineRun } from "../machine/machine-run.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const NODE = 1 as NodeId;

test("registrar: only the catalog's log says that another disk took this one's place, and it is asked when one is seen", () => {
  // The log, and the catalog of this node, which follows later.
  const log = new MachineRun(new CatalogMachine());
  const local = new MachineRun(new CatalogMachine());
  const entries: Uint8Array[] = [];
  const commit = (command: Uint8Array): ReturnType<typeof log.command> => {
    entries.push(command);
    return log.command(command);
  };
  const replaced: string[] = [];
  let asked = 0;
  const catalog = (command: Uint8Array, outcome: ProposeOutcome): void => {
    asked += 1;
    const { code, value, detail } = commit(command);
    outcome(null, code, value, Buffer.from(detail));
  };
  const registrar = new Registrar(
    { clusterId: "test", registration: nodeRow(NODE, { storeId: "mine", incarnation: 2 }) },
    {
      catalog: local.machine,
      router: { catalog } as unknown as Router,
      clock: new FakeLoop(),
      registered: () => {},
      outrun: () => {},
      replaced: (reason) => void replaced.push(reason),
    },
  );
  const follow = (): void => {
    for (const command of entries.splice(0)) {
      local.command(command);
      registrar.catalogChanged();
    }
  };
  commit(encodeRegisterNode(nodeRow(NODE, { storeId: "lost" })));
  commit(encodeJoinNode({ node: nodeRow(NODE, { storeId: "mine" }), lostLife: -1 }));
  registrar.register();
  // An older catalog names the disk that was lost.
  follow();
  expect([asked, replaced, registrar.isInCatalog]).toEqual([1, [], true]);
  commit(encodeJoinNode({ node: nodeRow(NODE, { storeId: "another" }), lostLife: -1 }));
  follow();
  expect([asked, replaced.length]).toEqual([2, 1]);
});
