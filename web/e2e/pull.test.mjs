// An image that the engine does not have, fetched from a real registry before the user's eyes.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, command, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Registry } from './registry.mjs';
import { Server } from './server.mjs';

const LAYERS = 3;
const LAYER_BYTES = 3 * 1024 * 1024;

describe('fetching an image', { timeout: 180_000 }, () => {
  let server, registry, browser, page, reference;

  before(async () => {
    registry = await Registry.start();
    reference = await registry.offer('tools/probe', LAYERS, LAYER_BYTES);
    server = await Server.start();
    await server.register();
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(server.url);
  });
  after(async () => {
    registry?.release();
    await browser?.close();
    await server?.close();
    await registry?.close();
  });

  it('tells of each layer how much of it is here', async () => {
    registry.hold();
    await page.getByTestId('new-workspace').click();
    await page.locator('[data-testid=template][data-id=image]').click();
    await page.getByTestId('workspace-image').fill(reference);
    await page.getByTestId('create-workspace').click();
    const pull = page.getByTestId('pull');
    await pull.getByText(reference, { exact: true }).waitFor();
    await page.locator(`[data-testid=pull][data-layers="${LAYERS + 1}"]`).waitFor();
    await eventually('a part of the image is told', async () => {
      const share = Number(await pull.getByRole('progressbar').getAttribute('aria-valuenow'));
      return share > 0 && share < 100;
    });
    assert.match(await pull.innerText(), /of \d+(\.\d+)? MiB/);
  });

  it('shows limits that were asked for meanwhile, and what holds until they come', async () => {
    await page.getByTestId('view-settings').click();
    await page.getByTestId('size-memory').fill('700');
    await page.getByTestId('size-apply').click();
    await page.getByTestId('limits-wanted').getByText('next starts').waitFor();
    assert.equal(await page.getByTestId('size-memory').inputValue(), '700');
    await page.getByTestId('view-terminals').click();
  });

  it('goes on as the layers come, and opens a shell', async () => {
    registry.release();
    await attached(page);
    await waitForText(page, /[$#] ?$/);
    await command(page, 'echo "fetched $((6 * 7))"', 'fetched 42');
    const { items } = await server.api('GET', '/api/workspaces');
    assert.deepEqual([items[0].memory_mb, items[0].limits_wanted ?? null], [700, null]);
  });

  it('says what to do about an image that is not there', async () => {
    await page.goto(server.url);
    await page.getByTestId('new-workspace').click();
    await page.locator('[data-testid=template][data-id=image]').click();
    await page.getByTestId('workspace-image').fill(`${registry.host}/tools/none:1`);
    await page.getByTestId('create-workspace').click();
    await page.locator('[data-testid=standing][data-status=error]').getByText('tools/none').waitFor();
    await page.getByTestId('standing-action').waitFor();
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
