// An upload outlives a cut and a reload of the page: it goes on where it was.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

const BYTES = 6_000_000;

describe('an upload that is cut', { timeout: 120_000 }, () => {
  let server, browser, page, id, folder, file;
  const pieces = [];

  before(async () => {
    server = await Server.start();
    await server.register();
    ({ id } = await server.workspace('uploads'));
    folder = await mkdtemp(join(tmpdir(), 'rexec-upload-'));
    file = join(folder, 'cut.bin');
    await writeFile(file, randomBytes(BYTES));
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(`${server.url}/w/${id}/files`);
    await page.locator('[data-testid=folder-live][data-live=true]').waitFor();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('goes on after a reload of the page', async () => {
    // The network takes two pieces and then no more.
    await page.route(/files\?.*upload=/, async (route) => {
      pieces.push(Number(new URL(route.request().url()).searchParams.get('offset')));
      if (pieces.length > 2) await route.abort();
      else await route.continue();
    });
    await page.getByTestId('pick-files').setInputFiles(file);
    await eventually('a third piece that is cut', () => pieces.length > 2);
    await page.unroute(/files\?.*upload=/);
    page.once('dialog', (dialog) => dialog.accept());
    await page.reload();
    await page.locator('[data-testid=folder-live][data-live=true]').waitFor();
    const first = page.waitForRequest((request) => request.method() === 'PUT');
    await page.getByTestId('pick-files').setInputFiles(file);
    const offset = Number(new URL((await first).url()).searchParams.get('offset'));
    assert.ok(offset > 0, `it began again, after pieces at ${pieces}`);
    await page.locator('[data-testid=file-row][data-name="cut.bin"]').waitFor();
    const { stdout } = await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['stat', '-c', '%s', 'cut.bin'] });
    assert.equal(Number(stdout), BYTES);
  });

  it('tells of a failure with its code, and tries again', async () => {
    await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['sh', '-c', 'mkdir closed && chmod 500 closed'] });
    await page.goto(`${server.url}/w/${id}/files?path=/home/user/closed`);
    await page.getByTestId('empty-folder').waitFor();
    await page.getByTestId('pick-files').setInputFiles(file);
    await page.locator('[data-testid=upload][data-phase=failed]').getByText('file_denied').waitFor();
    await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['chmod', '700', 'closed'] });
    await page.getByTestId('retry-upload').click();
    await page.locator('[data-testid=file-row][data-name="cut.bin"]').waitFor();
  });
});
