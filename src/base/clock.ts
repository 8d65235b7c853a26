/** Time as the layers below `broker/` see it, so that a simulator can own it. */
export interface Clock {
  /** Milliseconds that never go back, with no meaning outside this process. */
  monotonicMs(): number;
  /** Milliseconds since 1970 of the wall clock; may jump either way. */
  wallMs(): number;
  /** Calls back once, at the earliest after `delayMs`; never keeps a process alive on its own. */
  schedule(delayMs: number, callback: () => void): Timer;
  /** Calls back once, after everything that has already arrived from disk and network was handled. */
  defer(callback: () => void): void;
}

export interface Timer {
  cancel(): void;
}
