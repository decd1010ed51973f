/// <reference types="vitest/config" />
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';
import { precompress } from './scripts/precompress.ts';

/** Where `npm run dev` sends `/api`, WebSockets included. */
const api = process.env.REXEC_DEV_API ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte(), precompress()],
  build: {
    target: 'es2022',
    // Fonts stay files of their own, so that the content security policy needs no `data:`.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
  },
  server: {
    host: '127.0.0.1',
    // The server wants its own Origin on cookie requests, so the proxy presents itself as the server.
    proxy: {
      '/api': {
        target: api,
        ws: true,
        changeOrigin: true,
        headers: { origin: new URL(api).origin },
      },
    },
  },
  test: {
    include: ['src/**/*.test.ts'],
    environment: 'node',
    // What hangs fails all the same; a busy machine is not to blame.
    testTimeout: 30_000,
  },
});
