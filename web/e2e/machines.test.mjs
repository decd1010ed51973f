// A machine that is joined by the command which the page gives, used there, and cut off.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { assertFits, attached, enter, PHONE, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually, rexecBinary } from './environment.mjs';
import { Server } from './server.mjs';

describe('a joined machine', { timeout: 120_000 }, () => {
  let server, browser, page, home, machine;

  before(async () => {
    server = await Server.start();
    await server.register();
    home = await mkdtemp(join(tmpdir(), 'rexec-e2e-home-'));
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(server.url);
  });
  after(async () => {
    machine?.kill();
    await browser?.close();
    await server?.close();
    if (home) await rm(home, { recursive: true, force: true });
  });

  const card = () => page.getByTestId('workspace-card');
  const tokens = async () => (await server.api('GET', '/api/machines/tokens')).items.length;

  it('gives one command, whose token goes with the dialog', async () => {
    await page.getByTestId('join-machine').click();
    assert.match(await page.getByTestId('join-command').textContent(), /^rexec join http:\/\/127\.0\.0\.1:\d+ --token rexecj_[0-9A-Za-z]{49}$/);
    assert.equal(await tokens(), 1);
    await page.keyboard.press('Escape');
    await eventually('the token to go', async () => (await tokens()) === 0);
  });

  it('is there as soon as the command runs', async () => {
    await page.getByTestId('join-machine').click();
    const command = await page.getByTestId('join-command').textContent();
    const [, ...words] = command.split(' ');
    const { REXEC_URL: _, REXEC_TOKEN: __, XDG_CONFIG_HOME: ___, ...inherited } = process.env;
    machine = spawn(rexecBinary(), [...words, '--name', 'desk'], { stdio: 'ignore', env: { ...inherited, HOME: home } });
    await page.getByTestId('machine-joined').waitFor();
    await page.getByTestId('open-joined').click();
    await attached(page);
    await enter(page, 'pwd');
    await waitForText(page, home);
    assert.equal(await page.getByTestId('view-snapshots').count(), 0);
    assert.equal(await page.getByTestId('action-stop').count(), 0);
  });

  it('shows its files from its own home', async () => {
    await page.getByTestId('view-files').click();
    await eventually('the home', async () => (await page.getByTestId('crumbs').getAttribute('data-path')) === home);
  });

  it('tells what it is, and fits a phone', async () => {
    await page.getByTestId('view-settings').click();
    await page.getByTestId('settings').getByText(home, { exact: true }).waitFor();
    await page.goto(server.url);
    await card().getByTestId('machine-badge').waitFor();
    assert.equal(await card().locator('[data-testid^=action-]').count(), 2);
    await page.setViewportSize(PHONE.viewport);
    await assertFits(page, 'the dashboard');
    await page.getByTestId('join-machine').click();
    await page.getByTestId('join-command').waitFor();
    await assertFits(page, 'the dialog');
    await page.keyboard.press('Escape');
  });

  it('is cut off when it is deleted', async () => {
    const ended = once(machine, 'exit');
    await page.getByTestId('action-delete').click();
    await page.getByTestId('confirm').click();
    await card().waitFor({ state: 'detached' });
    assert.deepEqual((await ended)[0], 0);
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
