import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The coordinator serves what is built here from its own binary: one script and one style sheet, named by their contents.
export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2023',
    assetsInlineLimit: 0,
    // The polyfill would be a second script for browsers that can't run the first.
    modulePreload: false,
    reportCompressedSize: false,
  },
  server: {
    // `npm run dev` beside `promptfield up`.
    proxy: { '/api': 'http://127.0.0.1:7878', '/problems': 'http://127.0.0.1:7878' },
  },
  test: { include: ['src/**/*.test.ts'] },
});
