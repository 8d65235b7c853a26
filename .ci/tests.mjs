// What the tests' report (vitest's JSON) says, for .ci/run.
//   node tests.mjs counts REPORT        passed, failed and skipped, as three numbers
//   node tests.mjs failures REPORT      each failed test with the beginning of its message
//   node tests.mjs files REPORT         the files with failed tests, a line each
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const [verb, path] = process.argv.slice(2);
/** Without a report (vitest did not come to write one) nothing passed and the whole failed. */
let report = { numPassedTests: 0, numFailedTests: 1, numPendingTests: 0, testResults: [] };
try {
  report = JSON.parse(readFileSync(path, "utf8"));
} catch (error) {
  if (verb === "failures") say(`there is no report of the tests: ${error.message}`);
}

const failedFiles = report.testResults.filter((file) => file.status === "failed");
/** A file that fails as a whole (it can't be loaded, a hook fails) has no failed test of its own. */
const whole = failedFiles.filter((file) => file.assertionResults.every((test) => test.status !== "failed"));

if (verb === "counts") {
  say([report.numPassedTests, report.numFailedTests + whole.length, report.numPendingTests].join(" "));
} else if (verb === "files") {
  for (const file of failedFiles) say(relative(process.cwd(), file.name));
} else if (verb === "failures") {
  for (const file of failedFiles) {
    const name = relative(process.cwd(), file.name);
    if (file.message) say(`FAILED ${name}\n${beginning(file.message)}`);
    for (const test of file.assertionResults) {
      if (test.status !== "failed") continue;
      say(`FAILED ${name}: ${test.fullName}\n${beginning(test.failureMessages.join("\n"))}`);
    }
  }
} else {
  throw new Error(`unknown verb ${verb}: counts, failures or files`);
}

function beginning(message) {
  return message
    .split("\n")
    .slice(0, 25)
    .map((line) => `  ${line.slice(0, 300)}`)
    .join("\n");
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
