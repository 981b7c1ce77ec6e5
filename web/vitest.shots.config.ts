import { defineConfig } from 'vitest/config';

// The pictures in docs/images: `npx vitest run --config vitest.shots.config.ts`, with PROMPTFIELD and CHROMIUM as for the tests.
export default defineConfig({
  test: { include: ['e2e/**/*.shot.ts'], testTimeout: 240_000, hookTimeout: 240_000, fileParallelism: false },
});
