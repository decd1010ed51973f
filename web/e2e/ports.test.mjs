// A server in a workspace, found by itself and opened in the browser.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, command, enter, signIn, startBrowser, waitForText } from './browser.mjs';
import { Server } from './server.mjs';

describe('the ports of a workspace', { timeout: 120_000 }, () => {
  let server, browser, page, id;

  const port = (number) => page.locator(`[data-testid=port][data-port="${number}"]`);

  before(async () => {
    server = await Server.start();
    await server.register();
    ({ id } = await server.workspace('ports'));
    await server.writeFile(id, '/home/user/site/index.html', '<h1>served from the workspace</h1>');
    browser = await startBrowser();
    // Previews have names of their own below localhost, where the sign-in has to be as well.
    await signIn(browser.context, server.url.replace('127.0.0.1', 'localhost'));
    page = await browser.context.newPage();
    await page.goto(`${server.url.replace('127.0.0.1', 'localhost')}/w/${id}`);
    await attached(page);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('shows what listens, as it begins to listen', async () => {
    await page.getByTestId('view-ports').click();
    await page.getByTestId('no-ports').waitFor();
    await page.getByTestId('view-terminals').click();
    await waitForText(page, '$');
    await enter(page, 'python3 -m http.server 8123 -d site');
    await page.getByTestId('view-ports').getByText('1', { exact: true }).waitFor();
    await page.getByTestId('view-ports').click();
    await port(8123).getByText('python3').waitFor();
  });

  it('opens its preview in a tab of its own, signed in', async () => {
    const [preview] = await Promise.all([browser.context.waitForEvent('page'), port(8123).getByTestId('open-port').click()]);
    await preview.getByRole('heading', { name: 'served from the workspace' }).waitFor();
    assert.ok(!preview.url().includes('code='), preview.url());
    await preview.close();
  });

  it('sends a visitor who is not signed in there through the page and back', async () => {
    const { items } = await server.api('GET', `/api/workspaces/${id}/ports`);
    assert.equal(items.length, 1);
    const visitor = await browser.context.newPage();
    await visitor.goto(`${server.url.replace('127.0.0.1', 'localhost')}/open-preview?workspace=${id}&port=8123&path=%2Findex.html%3Fq%3D1`);
    await visitor.getByRole('heading', { name: 'served from the workspace' }).waitFor();
    assert.match(visitor.url(), /\/index\.html\?q=1$/);
    await visitor.close();
  });

  it('is made public for a while, and private again', async () => {
    await port(8123).getByTestId('port-visibility').click();
    await page.getByTestId('port-public').check({ force: true });
    await page.getByTestId('port-apply').click();
    await port(8123).getByText('Public, ends in').waitFor();
    await port(8123).getByTestId('port-visibility').click();
    await page.getByTestId('port-private').check({ force: true });
    await page.getByTestId('port-apply').click();
    await page.locator('[data-testid=port][data-visibility=private]').waitFor();
  });

  it('goes when the program ends', async () => {
    await page.getByTestId('view-terminals').click();
    await page.keyboard.press('Control+C');
    await command(page, 'echo "ended $((6 * 7))"', 'ended 42');
    await page.getByTestId('view-ports').getByText('1', { exact: true }).waitFor({ state: 'detached' });
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
