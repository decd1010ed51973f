// Starts the system's Chromium, and reads terminals as the page has drawn them.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A browser with a fresh profile; `close` ends it and removes the profile. */
export async function startBrowser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), 'rexec-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ARGUMENTS,
    viewport: { width: 1440, height: 900 },
    ...options,
  });
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/** Everything that a terminal shows and has scrolled away, line by line; the visible one unless named. */
export function screenLines(page, id) {
  return page.evaluate((wanted) => {
    const shown = document.querySelector('.pane.active [data-testid=terminal]')?.getAttribute('data-terminal');
    const pane = window.__rexec?.terminals.get(wanted ?? shown ?? '');
    if (!pane) return [];
    const { active } = pane.screen.term.buffer;
    return Array.from({ length: active.length }, (_, row) => active.getLine(row)?.translateToString(true) ?? '');
  }, id);
}

/** Waits until the terminal shows the text; fails with what it shows instead. */
export async function waitForText(page, text, timeout = 10_000) {
  const deadline = Date.now() + timeout;
  let lines = [];
  while (Date.now() < deadline) {
    lines = await screenLines(page);
    if (lines.some((line) => line.includes(text))) return lines;
    await page.waitForTimeout(30);
  }
  throw new Error(`the terminal never showed ${JSON.stringify(text)}:\n${lines.join('\n').trimEnd()}`);
}
