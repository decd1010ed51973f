// Full-screen programs as people use them: an editor, a multiplexer, a monitor.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, command, enter, inBuffer, screenLines, signIn, standing, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

/** The lines in which tmux draws the border between two panes side by side. */
const borders = async (page) => (await screenLines(page)).filter((line) => line.includes('│')).length;

describe('full-screen programs', { timeout: 180_000 }, () => {
  let server, browser, page, workspace;

  before(async () => {
    server = await Server.start();
    await server.register();
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    workspace = (await server.workspace('programs')).id;
    page = await browser.context.newPage();
    await page.goto(`${server.url}/w/${workspace}`);
    await attached(page);
    await waitForText(page, '$');
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('edits a file with vim', async () => {
    await enter(page, 'vim note.txt');
    await inBuffer(page, 'alternate');
    await waitForText(page, '"note.txt"');
    await page.keyboard.type('ifirst line');
    await page.keyboard.press('Enter');
    await page.keyboard.type('second wurd');
    await page.keyboard.press('Escape');
    await page.keyboard.type('ciwword 世界');
    await page.keyboard.press('Escape');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.type('yyp');
    await enter(page, ':wq');
    await inBuffer(page, 'normal');
    await command(page, 'echo "back $((6 * 7))"', 'back 42');
    assert.equal(await server.file(workspace, '/home/user/note.txt'), 'first line\nfirst line\nsecond word 世界\n');
  });

  it('splits, detaches and attaches tmux', async () => {
    const { rows } = await standing(page);
    await enter(page, 'tmux new -s pair');
    await inBuffer(page, 'alternate');
    await waitForText(page, /\bpair\b.*bash/);
    // It asks the terminal what it is when it begins: an answer that comes between the two keys would part them.
    await command(page, 'echo "one $((6 * 7))"', 'one 42');
    await page.keyboard.press('Control+B');
    await page.keyboard.type('%');
    await eventually('two panes', async () => (await borders(page)) >= rows - 1);
    await command(page, 'echo "right $((6 * 7))"', 'right 42');
    await page.keyboard.press('Control+B');
    await page.keyboard.press('ArrowLeft');
    await command(page, 'echo "left $((6 * 7))"', /^.*left 42.*│/);
    await page.keyboard.press('Control+B');
    await page.keyboard.type('d');
    await inBuffer(page, 'normal');
    await waitForText(page, '[detached (from session pair)]');
    await enter(page, 'tmux attach -t pair');
    await inBuffer(page, 'alternate');
    const lines = await waitForText(page, 'right 42');
    assert.ok(lines.some((line) => line.includes('left 42')));
    await eventually('two panes again', async () => (await borders(page)) >= rows - 1);
    await enter(page, 'tmux kill-session');
    await inBuffer(page, 'normal');
    await waitForText(page, '[exited]');
  });

  it('runs htop, which redraws and quits', async () => {
    await enter(page, 'htop -d 2');
    await inBuffer(page, 'alternate');
    await waitForText(page, 'Load average');
    const lines = await waitForText(page, /\bPID\b.*Command/i);
    assert.ok(lines.some((line) => /guest init/.test(line)), 'the guest is process 1');
    const first = (await standing(page)).drawn;
    const second = await eventually('a redraw', async () => {
      const { drawn } = await standing(page);
      return drawn > first && drawn;
    });
    await eventually('another redraw', async () => (await standing(page)).drawn > second);
    await page.keyboard.press('F1');
    await waitForText(page, 'Released under');
    await page.keyboard.press('Escape');
    // Until then, what follows would be read as Alt with that key.
    await eventually('the help is gone', async () => !(await screenLines(page)).some((line) => line.includes('Released under')));
    await page.keyboard.type('q');
    await inBuffer(page, 'normal');
    await command(page, 'echo "after htop $((6 * 7))"', 'after htop 42');
  });

  it('lets packages link their manual pages, without which they are not installed', async () => {
    const links = { command: ['ls', '-d', '/usr/share/man/man1', '/usr/share/man/man7'] };
    assert.equal((await server.api('POST', `/api/workspaces/${workspace}/exec`, links)).exit_code, 0);
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
