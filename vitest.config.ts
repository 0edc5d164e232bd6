import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'kernels/**/*.test.ts'],
    // onnxruntime-node holds native state, which worker threads of the runner do not tear down.
    pool: 'forks',
    testTimeout: 60_000,
    reporters: process.env.CI ? ['default'] : ['default'],
  },
});
