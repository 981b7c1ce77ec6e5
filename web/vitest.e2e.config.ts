import { defineConfig } from 'vitest/config';

// The dashboard in a real browser: `cargo xtask test browser`, which builds the programs and says where they are.
export default defineConfig({
  test: {
    include: ['e2e/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Browsers, coordinators and trainers share few cores.
    fileParallelism: false,
  },
});
