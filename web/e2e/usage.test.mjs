// What a workspace uses, what it may use, and what becomes of it when nobody does.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

describe('usage and settings of a workspace', { timeout: 120_000 }, () => {
  let server, browser, page, id;
  /** What the page asked for and was not there. */
  const missed = [];

  const view = () => server.api('GET', `/api/workspaces/${id}`);

  before(async () => {
    server = await Server.start();
    await server.register();
    ({ id } = await server.workspace('usage'));
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    page.on('response', (answer) => answer.status() === 404 && missed.push(answer.url()));
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('shows what it uses as it uses it', async () => {
    await page.goto(`${server.url}/w/${id}/stats`);
    await page.locator('[data-testid=stats][data-live=true]').waitFor();
    const memory = page.locator('[data-testid=chart][data-figure=memory]').getByTestId('chart-now');
    await eventually('a figure of memory', async () => /^[\d.]+ [KM]iB$/.test(await memory.innerText()));
    await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['sh', '-c', 'sleep 600 & sleep 600 & sleep 600 & '] });
    const processes = page.locator('[data-testid=chart][data-figure=pids]').getByTestId('chart-now');
    await eventually('its processes', async () => Number(await processes.innerText()) >= 4);
    await page.getByText('24 h').click();
    await page.locator('[data-testid=chart][data-figure=cpu] path.line').first().waitFor({ state: 'attached' });
  });

  it('is renamed', async () => {
    await page.getByTestId('view-settings').click();
    await page.getByTestId('setting-name').fill('renamed');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'renamed', exact: true }).waitFor();
    assert.equal((await view()).name, 'renamed');
  });

  it('says what becomes of it, and does otherwise when told', async () => {
    const sentence = page.getByTestId('idle-sentence');
    const before_ = await sentence.innerText();
    assert.notEqual(before_, '');
    await page.getByTestId('idle-stop_after_s').selectOption('0');
    await page.getByTestId('idle-reset').waitFor();
    assert.equal((await view()).idle.in_force.stop_after_s, 0);
    await page.getByTestId('idle-reset').click();
    await page.getByTestId('idle-reset').waitFor({ state: 'detached' });
    assert.notEqual((await view()).idle.in_force.stop_after_s, 0);
  });

  it('gets a limit of its disk, and says why not', async () => {
    await page.getByTestId('size-disk').fill('20');
    await page.getByTestId('size-apply').click();
    await page.getByTestId('size-apply').waitFor({ state: 'detached' });
    assert.equal((await view()).disk_gb, 20);
    await page.getByTestId('size-disk').fill('100000000');
    await page.getByTestId('size-apply').click();
    await page.getByTestId('size-fault').waitFor();
    assert.equal((await view()).disk_gb, 20);
  });

  it('is not given less than it uses, and says how much that is', async () => {
    await page.getByTestId('view-terminals').click();
    await page.getByTestId('view-settings').click();
    const use = ['sh', '-c', 'for n in $(seq 90); do sleep 600 & done >/dev/null 2>&1'];
    await server.api('POST', `/api/workspaces/${id}/exec`, { command: use });
    await page.getByTestId('size-pids').fill('64');
    await page.getByTestId('size-apply').click();
    await page.getByTestId('size-fault').getByText(/It has \d+ processes now.*limit_below_use/).waitFor();
    await page.locator('[data-testid=size-pids][aria-invalid=true]').waitFor();
    assert.notEqual((await view()).pids, 64);
  });

  it('is deleted, and the page goes to the others', async () => {
    await page.getByTestId('setting-delete').click();
    await page.getByTestId('confirm').click();
    await page.getByTestId('new-workspace').waitFor();
  });

  it('asks for nothing that is no more', async () => {
    await page.goto(`${server.url}/w/${id}`);
    await page.getByTestId('no-workspace').waitFor();
    assert.deepEqual(missed, []);
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
