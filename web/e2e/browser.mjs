// Starts the system's Chromium, and reads and drives terminals as the page has drawn them.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { chromiumBinary, eventually } from './environment.mjs';
import { EMAIL, PASSWORD } from './server.mjs';

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const DESKTOP = { viewport: { width: 1440, height: 900 } };
/** The true scale of a phone makes headless WebGL text too large. */
export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 1, hasTouch: true, isMobile: true };

/** A browser with a fresh profile; `close` ends it and removes the profile. `faults` gathers what went wrong on its pages. */
export async function startBrowser(options = DESKTOP) {
  const profile = await mkdtemp(join(tmpdir(), 'rexec-browser-'));
  // A script that fails half-way closes nothing.
  const sweep = () => rmSync(profile, { recursive: true, force: true });
  process.once('exit', sweep);
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: chromiumBinary(),
    headless: true,
    args: ARGUMENTS,
    ...options,
  });
  const faults = [];
  context.on('weberror', (error) => faults.push(String(error.error())));
  context.on('console', (message) => {
    if (message.text().startsWith('rexec:')) faults.push(message.text());
  });
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
    process.off('exit', sweep);
  };
  return { context, faults, close };
}

/** Signs the browser in without the form. */
export async function signIn(context, url) {
  const answer = await context.request.post(`${url}/api/auth/login`, { data: { email: EMAIL, password: PASSWORD } });
  assert.equal(answer.status(), 200, await answer.text());
}

/** The id of the terminal in sight, once it is attached. */
export async function attached(page) {
  const pane = page.locator('.pane.active [data-testid=terminal][data-phase=live]');
  await pane.waitFor({ timeout: 30_000 });
  return pane.getAttribute('data-terminal');
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

/** Waits until a line of the terminal contains the text or matches; fails with what it shows instead. */
export async function waitForText(page, text, timeoutMs = 20_000) {
  const fits = (line) => (typeof text === 'string' ? line.includes(text) : text.test(line));
  let lines = [];
  try {
    return await eventually('text', async () => {
      lines = await screenLines(page);
      return lines.some(fits) && lines;
    }, timeoutMs);
  } catch {
    throw new Error(`the terminal never showed ${text}:\n${lines.join('\n').trimEnd()}`);
  }
}

/** Types a line into the terminal in sight, in one go; `page.keyboard.type` does it key by key. */
export async function enter(page, line) {
  await page.keyboard.insertText(line);
  await page.keyboard.press('Enter');
}

/** Types a command and waits for what it prints, which must not be a part of the command itself. */
export async function command(page, line, expected) {
  await enter(page, line);
  return waitForText(page, expected);
}

/** Clears screen and scrollback, and waits for it. */
export async function wipe(page) {
  const mark = `wiped ${Math.random().toString(36).slice(2)}`;
  await enter(page, `clear; printf '\\e[3J'; echo '${mark.slice(0, 8)}''${mark.slice(8)}'`);
  await eventually('a clear screen', async () => (await screenLines(page))[0] === mark);
}

/** Mode and position of the terminal in sight. */
export function standing(page) {
  return page.evaluate(() => {
    const shown = document.querySelector('.pane.active [data-testid=terminal]').getAttribute('data-terminal');
    const { screen: { term }, client } = window.__rexec.terminals.get(shown);
    const { cols, rows, buffer: { active } } = term;
    return { cols, rows, buffer: active.type, x: active.cursorX, y: active.cursorY, base: active.baseY, drawn: client.drawn };
  });
}

export const inBuffer = (page, type) => eventually(`the ${type} screen`, async () => (await standing(page)).buffer === type);

/**
 * The whole picture of a terminal: each row's cells with their text, width, colours and attributes, the
 * cursor, the modes and which screen is in use. A blank that was written and one that was not look alike.
 */
export function picture(page, id) {
  return page.evaluate((wanted) => {
    const { term } = window.__rexec.terminals.get(wanted).screen;
    const { active } = term.buffer;
    const flags = ['isBold', 'isItalic', 'isDim', 'isUnderline', 'isBlink', 'isInverse', 'isInvisible', 'isStrikethrough', 'isOverline'];
    const look = (cell) => {
      const set = flags.filter((flag) => cell[flag]() !== 0).map((flag) => flag.slice(2));
      return `w${cell.getWidth()} ${cell.getFgColorMode()}:${cell.getFgColor()}/${cell.getBgColorMode()}:${cell.getBgColor()} ${set.join()}`;
    };
    const row = (line) => {
      const runs = [];
      for (let x = 0; x < line.length; x += 1) {
        const cell = line.getCell(x);
        const text = cell.getWidth() === 0 ? '' : cell.getChars() || ' ';
        const style = look(cell);
        const last = runs.at(-1);
        if (last?.[0] === style) last[1] += text;
        else runs.push([style, text]);
      }
      return { wrapped: line.isWrapped, runs };
    };
    const { cols, rows, modes } = term;
    const { synchronizedOutputMode: _, ...lasting } = modes;
    return {
      cols,
      rows,
      modes: lasting,
      buffer: active.type,
      cursor: [active.cursorX, active.cursorY],
      base: active.baseY,
      lines: Array.from({ length: active.length }, (_, y) => row(active.getLine(y))),
    };
  }, id);
}

/** The picture of a terminal once all that its program wrote is drawn; for programs that wait for input. */
export async function settledPicture(page, server, workspace, id) {
  await eventually(`${id} is drawn to its end`, async () => {
    const { items } = await server.api('GET', `/api/workspaces/${workspace}/terminals`);
    const { end } = items.find((terminal) => terminal.id === id);
    return page.evaluate(([tid, wanted]) => {
      const client = window.__rexec?.terminals.get(tid)?.client;
      return client?.phase === 'live' && client.drawn === wanted;
    }, [id, end]);
  });
  return picture(page, id);
}

/** The point on the page in the middle of a cell of the terminal in sight, row 0 being the top of the screen. */
export async function cellPoint(page, column, row) {
  const { cols, rows } = await standing(page);
  const box = await page.locator('.pane.active .xterm-screen').boundingBox();
  return { x: box.x + ((column + 0.5) * box.width) / cols, y: box.y + ((row + 0.5) * box.height) / rows };
}

/** Nothing on the page is wider than the window. */
export async function assertFits(page, where) {
  const [content, window_] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(content <= window_, `${where} is ${content} px wide in a window of ${window_} px`);
}
