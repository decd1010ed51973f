// A snapshot leaves as an archive and comes back.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { DESKTOP, signIn, startBrowser } from './browser.mjs';
import { Server } from './server.mjs';

describe('export and import', { timeout: 180_000 }, () => {
  let server, browser, page, archive;

  before(async () => {
    server = await Server.start();
    await server.register();
    const { id } = await server.workspace('travels');
    await server.writeFile(id, '/home/user/kept.txt', 'kept 42');
    await server.api('POST', `/api/workspaces/${id}/snapshots`, { name: 'luggage' });
    browser = await startBrowser({ ...DESKTOP, acceptDownloads: true });
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(`${server.url}/storage`);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('downloads a snapshot as one archive', async () => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByTestId('export-snapshot').click()]);
    assert.match(download.suggestedFilename(), /luggage.*\.tar\.zst$/);
    archive = await download.path();
  });

  it('refuses what is no archive, and says why', async () => {
    await page.getByTestId('pick-archive').setInputFiles({ name: 'no.tar.zst', mimeType: 'application/zstd', buffer: Buffer.from('not an archive') });
    await page.getByTestId('toast').getByText('no.tar.zst was not imported').waitFor();
    assert.equal(await page.getByTestId('toast-code').first().innerText(), 'archive_invalid');
    assert.equal((await server.api('GET', '/api/snapshots')).items.length, 1);
  });

  it('takes it in again as a snapshot that workspaces can be made from', async () => {
    await page.getByTestId('pick-archive').setInputFiles(archive);
    await page.getByTestId('toast').getByText('is imported').waitFor({ timeout: 90_000 });
    await page.locator('[data-testid=snapshot][data-state=ready]').nth(1).waitFor();
    const { items } = await server.api('GET', '/api/snapshots');
    const made = await server.api('POST', '/api/workspaces', { name: 'arrived', snapshot: items[0].id });
    assert.equal(await server.file(made.id, '/home/user/kept.txt'), 'kept 42');
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
