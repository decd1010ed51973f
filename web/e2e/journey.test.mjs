// From an empty server to a shell that one can live in: the whole way of a first user.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, cellPoint, command, enter, picture, screenLines, settledPicture, standing, startBrowser, waitForText, wipe } from './browser.mjs';
import { eventually } from './environment.mjs';
import { EMAIL, PASSWORD, Server } from './server.mjs';

describe('the journey of a first user', { timeout: 180_000 }, () => {
  let server, browser, page, workspace, terminal;

  before(async () => {
    server = await Server.start();
    browser = await startBrowser();
    page = await browser.context.newPage();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('makes the first account the administrator', async () => {
    await page.goto(server.url);
    await page.getByTestId('register-form').waitFor();
    await page.getByTestId('email').fill(EMAIL);
    await page.getByTestId('password').fill(PASSWORD);
    await page.getByTestId('submit').click();
    await page.getByText('admin', { exact: true }).waitFor();
    assert.equal((await server.api('GET', '/api/me')).role, 'admin');
  });

  it('opens a real bash in the home of a new workspace', async () => {
    await page.getByTestId('new-workspace').click();
    await page.getByTestId('workspace-name').fill('first');
    await page.getByTestId('create-workspace').click();
    terminal = await attached(page);
    workspace = (await server.api('GET', '/api/workspaces')).items[0].id;
    await waitForText(page, '$');
    await page.keyboard.type('echo "$PWD:$(whoami):$(ps -o comm= $$):$((40 + 2))"', { delay: 1 });
    await page.keyboard.press('Enter');
    await waitForText(page, '/home/user:user:bash:42');
    await command(page, 'test -t 0 && test -t 1 && echo "$(tty) $((40 + 3))"', /^\/dev\/pts\/\d+ 43$/);
  });

  it('keeps the home on a volume of its own, and process 1 to itself', async () => {
    await command(page, 'touch kept && echo "$(stat -c %U kept) owns it on $(findmnt -no TARGET -T kept)"', 'user owns it on /home/user');
    await command(page, 'grep -c . /proc/1/environ >/dev/null || echo "closed $((1 + 1))"', 'closed 2');
  });

  it('draws colours and attributes', async () => {
    await wipe(page);
    await command(page, `printf '\\e[1;31mBold\\e[0m \\e[48;5;27mIndexed\\e[0m \\e[38;2;1;2;3mTrue\\e[0m \\e[3;4;7;9mMany\\e[0m E%s\\n' nd`, 'End');
    const { lines } = await picture(page, terminal);
    const styleOf = (text) => lines.flatMap(({ runs }) => runs).find(([, run]) => run === text)?.[0];
    const PALETTE_16 = 1 << 24;
    const PALETTE_256 = 2 << 24;
    const RGB = 3 << 24;
    assert.equal(styleOf('Bold'), `w1 ${PALETTE_16}:1/0:-1 Bold`);
    assert.equal(styleOf('Indexed'), `w1 0:-1/${PALETTE_256}:27 `);
    assert.equal(styleOf('True'), `w1 ${RGB}:${0x010203}/0:-1 `);
    assert.equal(styleOf('Many'), 'w1 0:-1/0:-1 Italic,Underline,Inverse,Strikethrough');
  });

  it('follows the size of the window', async () => {
    const wide = await standing(page);
    await page.setViewportSize({ width: 900, height: 600 });
    const narrow = await eventually('a smaller terminal', async () => {
      const now = await standing(page);
      return now.cols < wide.cols && now.rows < wide.rows && now;
    });
    await command(page, 'stty size', `${narrow.rows} ${narrow.cols}`);
    await page.setViewportSize({ width: 1440, height: 900 });
    await eventually('the old size', async () => (await standing(page)).cols === wide.cols);
    await command(page, 'stty size', `${wide.rows} ${wide.cols}`);
  });

  it('takes any character and places the cursor where the guest does', async () => {
    const samples = ['plain', 'naïve café', '日本語', 'ｗｉｄｅ', '한국어', '🚀 rocket', '👩‍💻', '🇩🇪', '❤️', 'e\u0301a', 'नमस्ते', 'שלום'];
    await server.writeFile(workspace, '/home/user/samples', samples.map((sample) => `${sample}|\n`).join(''));
    await wipe(page);
    await command(page, 'cat samples; echo "printed $((6 * 7))"', 'printed 42');
    const drawn = await settledPicture(page, server, workspace, terminal);
    const lines = await screenLines(page);
    for (const sample of samples) assert.ok(lines.includes(`${sample}|`), `${sample} in\n${lines.join('\n')}`);
    // The reloaded page draws the guest's own screen: it agrees on every cell, so on every width.
    await page.reload();
    await attached(page);
    assert.deepEqual(await settledPicture(page, server, workspace, terminal), drawn);
    await page.locator('.pane.active .xterm-helper-textarea').focus();
    // Typed before the shell has handed the terminal over, Ctrl-D would be a character and no end.
    await command(page, 'echo "taking $((6 * 7))"; cat > typed', 'taking 42');
    await page.keyboard.insertText('grüße 世界 👩‍💻');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Control+D');
    await command(page, 'echo "saved $((6 * 7))"', 'saved 42');
    assert.equal(await server.file(workspace, '/home/user/typed'), 'grüße 世界 👩‍💻\n');
  });

  it('answers a program that asks where the cursor is, once', async () => {
    await wipe(page);
    const ask = `printf '日本🚀\\e[6n'; IFS= read -rs -d R -t 5 answer; printf '\\nat %s\\n' "\${answer#?[}"`;
    await command(page, ask, 'at 3;7');
  });

  it('opens links', async () => {
    await wipe(page);
    await command(page, `printf '%s/hea%s \\e]8;;%s/ready\\e\\\\hid''den\\e]8;;\\e\\\\\\n' ${server.url} lth ${server.url}`, /health hidden$/);
    const row = (await screenLines(page)).findIndex((line) => line.endsWith('/health hidden'));
    for (const [column, path] of [[10, '/health'], [`${server.url}/health `.length + 2, '/ready']]) {
      const point = await cellPoint(page, column, row);
      await page.mouse.move(point.x, point.y - 60);
      await page.mouse.move(point.x, point.y);
      await page.locator('.xterm-cursor-pointer').waitFor();
      const [opened] = await Promise.all([browser.context.waitForEvent('page'), page.mouse.click(point.x, point.y)]);
      await opened.waitForURL(server.url + path);
      await opened.close();
    }
  });

  it('searches', async () => {
    await wipe(page);
    await command(page, 'for i in 1 2 3; do echo "needle$i"; done; seq 200 | tail -n 5', '200');
    await page.keyboard.press('Control+Shift+F');
    await page.getByTestId('search-input').fill('needle');
    await page.getByTestId('search-count').getByText(/of 4$/).waitFor();
    await page.keyboard.press('Escape');
    await page.getByTestId('search-input').waitFor({ state: 'detached' });
    await command(page, 'echo "typing again $((6 * 7))"', 'typing again 42');
  });

  it('copies, and pastes in brackets', async () => {
    await browser.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.url });
    await wipe(page);
    await command(page, 'echo copy""-me', /^copy-me$/);
    const row = (await screenLines(page)).indexOf('copy-me');
    const point = await cellPoint(page, 2, row);
    await page.mouse.dblclick(point.x, point.y);
    await page.keyboard.press('Control+Shift+C');
    await eventually('the clipboard', async () => (await page.evaluate(() => navigator.clipboard.readText())) === 'copy-me');
    await page.evaluate(() => navigator.clipboard.writeText('echo pasted-$((1 + 1))\necho pasted-$((1 + 2))'));
    await page.keyboard.press('Control+Shift+V');
    const waiting = await waitForText(page, 'pasted-$((1 + 2))');
    assert.ok(!waiting.includes('pasted-2'), 'a pasted line break must not run the command');
    await page.keyboard.press('Enter');
    const lines = await waitForText(page, /^pasted-3$/);
    assert.ok(lines.includes('pasted-2'));
  });

  it('says with which code a shell ended, and opens another', async () => {
    await enter(page, 'exit 7');
    assert.equal(await page.getByTestId('exit-code').innerText(), '7');
    await page.getByTestId('new-after-exit').click();
    await eventually('a new terminal', async () => (await attached(page)) !== terminal);
    await command(page, 'echo "new $((6 * 7))"', 'new 42');
  });

  it('sleeps and wakes with its home', async () => {
    await enter(page, 'echo "still $((6 * 7))" > kept; sync');
    await page.getByTestId('action-stop').click();
    const confirm = page.getByTestId('confirm');
    const stopped = page.locator('[data-testid=standing][data-status=stopped]');
    await confirm.or(stopped).first().waitFor();
    if (await confirm.isVisible()) await confirm.click();
    await stopped.waitFor();
    await page.getByTestId('standing-action').click();
    await attached(page);
    await waitForText(page, '$');
    await command(page, 'cat kept', 'still 42');
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
