/** The suite's last line, as any CI reads it: "N passed, N failed, N skipped". */

import type { Reporter, TestModule } from 'vitest/node';

export class CountReporter implements Reporter {
  readonly onTestRunEnd = (modules: readonly TestModule[]): void => {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) count[test.result().state]++;
      // A file that does not load has no tests to count.
      if (module.errors().length > 0) count.failed++;
    }
    // Behind the other reporters' summaries.
    process.on('exit', () => {
      process.stdout.write(
        `${count.passed} passed, ${count.failed} failed, ${count.skipped + count.pending} skipped\n`,
      );
    });
  };
}
