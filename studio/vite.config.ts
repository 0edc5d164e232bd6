/**
 * Builds the page of a report as one file, dist/studio/report.html: script and style inside, data put in by
 * src/report/html.ts. Its content security policy allows that script, by its hash, and no network at all.
 */

import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { Plugin } from 'vite';
import { defineConfig } from 'vite';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here('.'),
  build: {
    outDir: here('../dist/studio'),
    emptyOutDir: true,
    modulePreload: false,
    cssCodeSplit: false,
    rollupOptions: { input: here('report.html') },
    chunkSizeWarningLimit: 1000,
  },
  plugins: [oneFile()],
});

function oneFile(): Plugin {
  return {
    name: 'one-file',
    enforce: 'post',
    generateBundle(_, bundle) {
      const files = Object.values(bundle);
      const page = files.find(({ fileName }) => fileName.endsWith('.html'));
      const script = files.find((file) => file.type === 'chunk');
      const style = files.find(({ fileName }) => fileName.endsWith('.css'));
      if (page?.type !== 'asset' || script?.type !== 'chunk' || style?.type !== 'asset') {
        throw new Error('one page, one script and one style are expected');
      }
      const code = script.code.trim().replaceAll('</script', '<\\/script');
      // Plots bring styles of their own, which a hash cannot know.
      const policy = `default-src 'none'; script-src '${hash(code)}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'`;
      page.source = String(page.source)
        .replace(/\s*<script type="module"[^>]*><\/script>/, '')
        .replace(/\s*<link rel="stylesheet"[^>]*>/, '')
        .replace('%POLICY%', () => policy)
        .replace('</head>', () => `<style>${String(style.source).trim()}</style>\n</head>`)
        .replace('</body>', () => `<script type="module">${code}</script>\n</body>`);
      for (const { fileName } of [script, style]) delete bundle[fileName];
    },
  };
}

function hash(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
