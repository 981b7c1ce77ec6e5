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
    // `npm run dev` beside `promptfield up`, which turns pages of other addresses away.
    proxy: {
      '/api': {
        target: 'http://127.0.0.1:7878',
        configure: (proxy) => proxy.on('proxyReq', (request) => request.removeHeader('origin')),
      },
    },
  },
  test: { include: ['src/**/*.test.ts'] },
});
