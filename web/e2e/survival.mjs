// What must survive: a closed tab, a lost network, a killed server. The suite is the same on every database.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, command, enter, inBuffer, screenLines, settledPicture, signIn, startBrowser, waitForText, wipe } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './server.mjs';

/** Fits the guest's scrollback, so that a page that comes late sees them all. */
const LINES = 300;
const FILE = '/home/user/poem.py';
const SOURCE = ['# Übermut 世界 🚀', 'import sys', '', 'def greet(name: str = "日本") -> None:', '    print(f"hello {name}", file=sys.stderr)  # TODO later', '', 'greet()', ''].join('\n');

/** A command that prints numbered lines, unhurried enough to be met by any outage. */
const COUNTER = `for ((i = 1; i <= ${LINES}; i++)); do echo "line $i"; sleep 0.015; done`;

const numbersIn = (lines) => lines.map((line) => /^line (\d+)$/.exec(line)?.[1]).filter(Boolean).map(Number);
const oneTo = (last) => Array.from({ length: last }, (_, index) => index + 1);

const tab = (page, id) => page.locator(`[data-testid=terminal-tab][data-id="${id}"]`).click();
const live = (page, id) => page.locator(`[data-terminal="${id}"][data-phase=live]`).waitFor({ state: 'attached', timeout: 30_000 });
const reachedLine = (page, id, line) =>
  eventually(`line ${line}`, async () => numbersIn(await screenLines(page, id)).includes(line), 40_000);

async function newTerminal(page) {
  const before = await page.getByTestId('terminal-tab').count();
  await page.getByTestId('new-terminal').click();
  await eventually('a new tab', async () => (await page.getByTestId('terminal-tab').count()) > before);
  const id = await attached(page);
  await waitForText(page, '$');
  return id;
}

/** Colours, attributes, wide characters, a mark, an unsaved change, a cursor in the middle: nothing that a redraw gets for free. */
async function openEditor(page) {
  await enter(page, 'echo "shell $$"');
  const lines = await waitForText(page, /^shell \d+$/);
  await enter(page, `vim -c 'syntax on' -c 'set number hlsearch cursorline mouse=a' ${FILE}`);
  await inBuffer(page, 'alternate');
  await waitForText(page, 'import sys');
  await page.keyboard.type('/name');
  await page.keyboard.press('Enter');
  await page.keyboard.type('Ounsaved 🚀 line');
  await page.keyboard.press('Escape');
  await waitForText(page, 'unsaved 🚀 line');
  return lines.find((line) => /^shell \d+$/.test(line));
}

export function survival(database) {
  describe(`survival on ${database}`, { timeout: 240_000 }, () => {
    let server, proxy, browser, page, workspace, editor, shell, other;

    const open = async () => {
      page = await browser.context.newPage();
      await page.goto(`${proxy.url}/w/${workspace}/${editor ?? ''}`);
      return attached(page);
    };

    before(async () => {
      server = await Server.start({ database });
      await server.register();
      workspace = (await server.workspace('survivor')).id;
      await server.writeFile(workspace, FILE, SOURCE);
      proxy = await Proxy.start(server.port);
      browser = await startBrowser();
      await signIn(browser.context, proxy.url);
      editor = await open();
      await waitForText(page, '$');
      shell = await openEditor(page);
      other = await newTerminal(page);
    });
    after(async () => {
      await browser?.close();
      await proxy?.close();
      await server?.close();
    });

    it('shows a closed tab again exactly, and what ran on meanwhile', async () => {
      await wipe(page);
      await enter(page, COUNTER);
      await reachedLine(page, other, 20);
      const seen = await settledPicture(page, server, workspace, editor);
      await page.close();
      await eventually('output that nobody watches', async () => {
        const { items } = await server.api('GET', `/api/workspaces/${workspace}/terminals`);
        const { end, viewers } = items.find(({ id }) => id === other);
        return viewers === 0 && end > 'line 100\r\n'.length * 100;
      });
      assert.equal(await open(), editor);
      assert.deepEqual(await settledPicture(page, server, workspace, editor), seen);
      await tab(page, other);
      await live(page, other);
      await reachedLine(page, other, LINES);
      assert.deepEqual(numbersIn(await screenLines(page, other)), oneTo(LINES));
    });

    it('loses and doubles nothing when the network fails under output and typing', async () => {
      await wipe(page);
      await enter(page, `stty -echo; (${COUNTER}) & cat > typed`);
      const typed = [];
      for (const [outage, fail] of ['cut', 'swallow', 'cut', 'swallow'].entries()) {
        await reachedLine(page, other, (outage + 1) * 50);
        const words = [`before ${outage}`, `during ${outage}`, `after ${outage}`];
        await page.keyboard.type(words[0]);
        await page.keyboard.press('Enter');
        proxy[fail]();
        await page.keyboard.type(words[1]);
        await page.keyboard.press('Enter');
        if (fail === 'cut') await page.locator('.pane.active').getByTestId('reconnecting').waitFor();
        proxy.restore();
        await page.keyboard.type(words[2]);
        await page.keyboard.press('Enter');
        await live(page, other);
        typed.push(...words);
      }
      await reachedLine(page, other, LINES);
      await page.keyboard.press('Control+D');
      await command(page, 'echo "ended $((6 * 7))"', 'ended 42');
      assert.deepEqual(numbersIn(await screenLines(page, other)), oneTo(LINES));
      assert.equal(await server.file(workspace, '/home/user/typed'), typed.map((word) => `${word}\n`).join(''));
    });

    it('keeps running programs when the browser is offline', async () => {
      await tab(page, editor);
      const seen = await settledPicture(page, server, workspace, editor);
      await browser.context.setOffline(true);
      proxy.cut();
      await page.locator('.pane.active').getByTestId('reconnecting').waitFor();
      proxy.restore();
      await browser.context.setOffline(false);
      await live(page, editor);
      assert.deepEqual(await settledPicture(page, server, workspace, editor), seen);
    });

    it('outlives a killed server: same picture, in the open page and in a new one, not a line lost', async () => {
      await tab(page, other);
      await wipe(page);
      await enter(page, COUNTER);
      await tab(page, editor);
      const seen = await settledPicture(page, server, workspace, editor);
      await reachedLine(page, other, 40);
      await server.kill();
      await page.locator('.pane.active').getByTestId('reconnecting').waitFor();
      await server.boot();
      await live(page, editor);
      await live(page, other);
      assert.deepEqual(await settledPicture(page, server, workspace, editor), seen);
      await tab(page, other);
      await reachedLine(page, other, LINES);
      assert.deepEqual(numbersIn(await screenLines(page, other)), oneTo(LINES));
      await page.close();
      await open();
      assert.deepEqual(await settledPicture(page, server, workspace, editor), seen);
      await tab(page, other);
      await reachedLine(page, other, LINES);
      assert.deepEqual(numbersIn(await screenLines(page, other)), oneTo(LINES));
    });

    it('outlives an orderly restart of the server', async () => {
      await tab(page, editor);
      const seen = await settledPicture(page, server, workspace, editor);
      await server.stop();
      await page.locator('.pane.active').getByTestId('reconnecting').waitFor();
      await server.boot();
      await live(page, editor);
      assert.deepEqual(await settledPicture(page, server, workspace, editor), seen);
    });

    it('delivers what was typed while the server was dead, once, to the same shell', async () => {
      await tab(page, editor);
      await page.keyboard.type('Otyped alive');
      await server.kill();
      await page.keyboard.type(' and dead');
      await page.locator('.pane.active').getByTestId('reconnecting').waitFor();
      await page.keyboard.type(' and waiting');
      await page.keyboard.press('Escape');
      await server.boot();
      await live(page, editor);
      await waitForText(page, 'typed alive and dead and waiting');
      await enter(page, ':wq');
      await inBuffer(page, 'normal');
      const saved = (await server.file(workspace, FILE)).split('\n');
      assert.equal(saved.filter((line) => line.trim() === 'typed alive and dead and waiting').length, 1);
      assert.equal(saved.length, SOURCE.split('\n').length + 2);
      await enter(page, 'clear; echo "shell $$"');
      await eventually('the prompt after clear', async () => (await screenLines(page)).filter((line) => line === shell).length > 0);
      const { items } = await server.api('GET', `/api/workspaces/${workspace}/terminals`);
      assert.deepEqual(items.map(({ id }) => id).sort(), [editor, other].sort());
    });

    it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
  });
}
