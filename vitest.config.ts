import { defineConfig } from 'vitest/config';
import { CountReporter } from './test/count.ts';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    // onnxruntime-node holds native state, which the runner's worker threads do not tear down.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    reporters: ['default', new CountReporter()],
  },
});
