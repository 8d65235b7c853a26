/** What was opened is closed in reverse; every closer gets its turn even if one fails. */
export class Closers {
  private closers: (() => PromiseLike<void> | void)[] = [];

  add(closer: () => PromiseLike<void> | void): void {
    this.closers.push(closer);
  }

  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const closer of this.closers.reverse()) {
      try {
        await closer();
      } catch (error) {
        errors.push(error);
      }
    }
    this.closers = [];
    if (errors.length > 0) throw new AggregateError(errors, "the node did not close cleanly");
  }
}
