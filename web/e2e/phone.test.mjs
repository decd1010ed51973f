// The journey on a phone, by touch.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertFits, attached, enter, PHONE, standing, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { EMAIL, PASSWORD, Server } from './server.mjs';

describe('a phone of 390 x 844', { timeout: 120_000 }, () => {
  let server, browser, page;

  before(async () => {
    server = await Server.start();
    browser = await startBrowser(PHONE);
    page = await browser.context.newPage();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('makes an account and a workspace', async () => {
    await page.goto(server.url);
    await page.getByTestId('register-form').waitFor();
    await assertFits(page, 'the sign-in');
    await page.getByTestId('email').fill(EMAIL);
    await page.getByTestId('password').fill(PASSWORD);
    await page.getByTestId('submit').tap();
    await page.getByTestId('new-workspace').waitFor();
    await assertFits(page, 'the empty dashboard');
    await page.getByTestId('new-workspace').tap();
    await page.getByTestId('workspace-name').fill('a-rather-long-name-for-a-workspace-on-a-small-screen');
    await assertFits(page, 'the form');
    await page.getByTestId('create-workspace').tap();
    await attached(page);
    await waitForText(page, '$');
    await assertFits(page, 'the terminal');
  });

  it('types, and fits the shell to the screen', async () => {
    const { cols, rows } = await standing(page);
    assert.ok(cols >= 40 && cols < 80, `${cols} columns`);
    await page.locator('.pane.active .xterm-screen').tap();
    await enter(page, 'stty size');
    await waitForText(page, `${rows} ${cols}`);
  });

  it('has the keys that a phone lacks', async () => {
    const keys = page.locator('.pane.active').getByTestId('key-bar');
    await enter(page, 'sleep 600');
    await keys.getByRole('button', { name: 'ctrl' }).tap();
    await page.keyboard.insertText('c');
    await waitForText(page, '^C');
    await enter(page, 'echo "recalled $((6 * 7))"');
    await waitForText(page, 'recalled 42');
    await keys.getByRole('button', { name: 'Up', exact: true }).tap();
    await page.keyboard.press('Enter');
    await eventually('the command again', async () => (await waitForText(page, 'recalled 42')).filter((line) => line === 'recalled 42').length === 2);
  });

  it('goes back to the list and in again', async () => {
    const terminal = await attached(page);
    await page.goBack();
    await page.getByTestId('workspace-card').waitFor();
    await assertFits(page, 'the dashboard');
    await page.getByTestId('open-workspace').tap();
    assert.equal(await attached(page), terminal);
    await waitForText(page, 'recalled 42');
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
