// The load of the bench, which knows what must come back, serves the tests as well.
export { NumberedLoad, readAll, violations, type Acked } from "../../bench/numbered-load.ts";
