// What stays when machines go: snapshots with their clones, and kept homes.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, command, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

describe('snapshots and kept homes', { timeout: 180_000 }, () => {
  let server, browser, page, id;

  before(async () => {
    server = await Server.start();
    await server.register();
    ({ id } = await server.workspace('origin'));
    await server.writeFile(id, '/home/user/kept.txt', 'kept 42');
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(`${server.url}/w/${id}/snapshots`);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('takes a snapshot and tells what it cost', async () => {
    await page.getByTestId('no-snapshots').waitFor();
    await page.getByTestId('snapshot-name').fill('first light');
    await page.getByTestId('take-snapshot').click();
    const snapshot = page.locator('[data-testid=snapshot][data-state=ready]');
    await snapshot.getByText('first light').waitFor();
    assert.match(await snapshot.getByTestId('pause').innerText(), /Stood still for [\d.]+ m?s/);
    await page.getByTestId('toast').getByText('first light is ready').waitFor();
  });

  it('makes a workspace of it that has the home', async () => {
    await page.getByTestId('clone-snapshot').click();
    await page.getByTestId('workspace-name').fill('clone');
    await page.getByTestId('create-workspace').click();
    await attached(page);
    await waitForText(page, '$');
    await command(page, 'cat kept.txt', 'kept 42');
  });

  it('deletes a snapshot, and its clone lives on', async () => {
    await page.goto(`${server.url}/w/${id}/snapshots`);
    await page.getByTestId('snapshot').getByText('1 clone').waitFor();
    await page.getByTestId('delete-snapshot').click();
    await page.getByTestId('confirm').click();
    await page.getByTestId('no-snapshots').waitFor();
    const { items } = await server.api('GET', '/api/workspaces');
    assert.deepEqual(items.map(({ name, status }) => `${name} ${status}`).sort(), ['clone running', 'origin running']);
  });

  it('keeps the home of a deleted workspace, and restores it', async () => {
    await page.goto(server.url);
    await page.locator(`[data-testid=workspace-card][data-id="${id}"]`).getByTestId('action-delete').click();
    await page.getByTestId('confirm').click();
    await page.locator(`[data-testid=workspace-card][data-id="${id}"]`).waitFor({ state: 'detached' });
    await page.getByTestId('page-storage').click();
    await page.getByTestId('kept-home').getByText('origin').waitFor();
    await page.getByTestId('restore-home').click();
    await attached(page);
    await waitForText(page, '$');
    await command(page, 'cat kept.txt', 'kept 42');
  });

  it('removes a kept home for good', async () => {
    const { items } = await server.api('GET', '/api/workspaces');
    await server.api('DELETE', `/api/workspaces/${items.find(({ name }) => name === 'origin').id}`);
    await page.goto(`${server.url}/storage`);
    await page.getByTestId('purge-home').click();
    await page.getByTestId('confirm').click();
    await page.getByTestId('no-kept-homes').waitFor();
    await eventually('no kept home', async () => (await server.api('GET', '/api/volumes')).items.every(({ state }) => state === 'in_use'));
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
