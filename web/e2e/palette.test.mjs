// The palette, and the feed of what happened.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, signIn, startBrowser, waitForText } from './browser.mjs';
import { Server } from './server.mjs';

describe('the palette and the feed', { timeout: 120_000 }, () => {
  let server, browser, page, atlas, sandbox;

  before(async () => {
    server = await Server.start();
    await server.register();
    atlas = await server.workspace('atlas');
    sandbox = await server.workspace('sandbox');
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(server.url);
    await page.getByTestId('workspace-card').first().waitFor();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const choose = async (text) => {
    await page.getByTestId('palette-input').fill(text);
    await page.keyboard.press('Enter');
    await page.getByTestId('palette').waitFor({ state: 'detached' });
  };

  /** Key by key: what a key's release does not reach, xterm.js takes for a composition. */
  const typed = async (line, expected) => {
    await page.keyboard.type(line);
    await page.keyboard.press('Enter');
    await waitForText(page, expected);
  };

  it('opens a workspace by a few letters', async () => {
    await page.keyboard.press('Control+K');
    await choose('atl');
    await attached(page);
    assert.ok(page.url().includes(atlas.id));
  });

  it('leaves the shell its own key, and opens from the terminal with Shift', async () => {
    await waitForText(page, '$');
    await page.keyboard.insertText('echo cut this');
    for (let n = 0; n < ' this'.length; n += 1) await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('Control+K');
    await page.keyboard.press('Enter');
    await waitForText(page, /^cut$/);
    await page.keyboard.press('Control+Shift+K');
    await choose('atlas files');
    await page.getByTestId('files').waitFor();
    await page.getByTestId('view-terminals').click();
    await typed('echo "here $((6 * 7))"', 'here 42');
  });

  it('stops another workspace, and hands the keyboard back', async () => {
    await page.keyboard.press('Control+Shift+K');
    await choose('stop sandbox');
    await page.keyboard.press('Control+Shift+K');
    await page.getByTestId('palette-input').waitFor();
    await page.keyboard.press('Escape');
    await page.getByTestId('palette').waitFor({ state: 'detached' });
    await typed('echo "back $((6 * 7))"', 'back 42');
    await page.getByTestId('open-palette').click();
    await choose('all workspaces');
    await page.locator(`[data-id="${sandbox.id}"]`).getByText('Stopped').waitFor();
  });

  it('shows what happens as it happens, without being asked', async () => {
    const feed = page.locator('aside').getByTestId('activity');
    await feed.getByTestId('activity-entry').filter({ hasText: 'sandbox stopped' }).waitFor();
    await server.api('POST', `/api/workspaces/${atlas.id}/pause`);
    await feed.getByTestId('activity-entry').filter({ hasText: 'atlas paused' }).waitFor();
    await page.locator(`[data-id="${atlas.id}"]`).getByText('Paused').waitFor();
    await page.reload();
    await feed.getByTestId('activity-entry').filter({ hasText: 'sandbox stopped' }).waitFor();
  });

  it('begins a new workspace', async () => {
    await page.keyboard.press('Control+K');
    await choose('new workspace');
    await page.getByTestId('workspace-name').waitFor();
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
