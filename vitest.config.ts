import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { CountReporter } from './test/count.ts';
import { patience } from './test/patience.ts';

export default defineConfig({
  test: {
    // onnxruntime-node holds native state, which the runner's worker threads do not tear down.
    pool: 'forks',
    // Of two cores, too, both: by itself the runner leaves one free.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Each worker has a core: more threads than cores wait for each other, and the suite takes a third longer.
    env: { OMP_NUM_THREADS: '1' },
    testTimeout: patience,
    hookTimeout: patience,
    teardownTimeout: patience,
    reporters: ['default', new CountReporter()],
    projects: [
      // Projects run in the order of their names, and the long files are those of the other.
      // Small files that leave nothing behind: one process for many loads modules and engine once, a third less work.
      { extends: true, test: { name: 'units', include: ['src/**/*.test.ts'], isolate: false } },
      { extends: true, test: { name: 'test', include: ['test/**/*.test.ts'] } },
    ],
  },
});
