// A server in a workspace, found by itself and opened in the browser.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, command, enter, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { EMAIL, PASSWORD, Server } from './server.mjs';

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

  it('finds the sign-in at the other name of the same machine', async () => {
    const visitor = await startBrowser();
    try {
      // The address that the server prints, where one signs in; the preview's name lies below the other.
      await signIn(visitor.context, server.url);
      const { items } = await server.api('GET', `/api/workspaces/${id}/ports`);
      const tab = await visitor.context.newPage();
      await tab.goto(new URL('/index.html', items[0].url).href.replace('127.0.0.1', 'localhost'));
      await tab.getByRole('heading', { name: 'served from the workspace' }).waitFor();
      assert.match(tab.url(), /\.localhost:\d+\/index\.html$/);
    } finally {
      await visitor.close();
    }
  });

  describe('for who comes by the address of a private preview', () => {
    const local = (address) => address.replace('127.0.0.1', 'localhost');
    /** Every address that a page went to, a fragment at most left out. */
    const ways = (visitor) => {
      const gone = [];
      visitor.on('request', (request) => request.isNavigationRequest() && gone.push(request.url()));
      return gone;
    };
    let stranger, address;

    before(async () => {
      stranger = await startBrowser();
      [{ url: address }] = (await server.api('GET', `/api/workspaces/${id}/ports`)).items;
      address = new URL('/index.html', address).href.replace(/127\.0\.0\.1/, 'localhost');
    });
    after(() => stranger?.close());

    it('asks for the sign-in, and leads back where one wanted to go', async () => {
      const visitor = await stranger.context.newPage();
      await visitor.goto(address);
      await visitor.getByTestId('login-form').waitFor();
      assert.equal(new URL(visitor.url()).pathname, '/open-preview');
      await visitor.getByTestId('email').fill(EMAIL);
      await visitor.getByTestId('password').fill(PASSWORD);
      await visitor.getByTestId('submit').click();
      await visitor.getByRole('heading', { name: 'served from the workspace' }).waitFor();
      assert.equal(visitor.url(), address);
      await visitor.close();
    });

    it('hands a cookie of the preview over once, which lets in from then on', async () => {
      const host = new URL(address).hostname;
      await stranger.context.clearCookies({ domain: host });
      const visitor = await stranger.context.newPage();
      const gone = ways(visitor);
      await visitor.goto(address);
      await visitor.getByRole('heading', { name: 'served from the workspace' }).waitFor();
      assert.equal(visitor.url(), address, 'nothing of the way stands in the address');
      const handed = gone.filter((way) => way.includes('code='));
      assert.equal(handed.length, 1, gone.join('\n'));

      // Only the preview has it, no script reads it, and it is not the sign-in.
      const cookies = await stranger.context.cookies(address);
      const [pass] = cookies.filter(({ domain }) => domain === host);
      assert.ok(pass?.httpOnly, JSON.stringify(cookies));
      assert.equal(await visitor.evaluate(() => document.cookie), '');
      const signedIn = (await stranger.context.cookies(local(server.url))).map(({ value }) => value);
      assert.ok(!signedIn.includes(pass.value));

      // With it there is no way round by the page.
      gone.length = 0;
      await visitor.reload();
      await visitor.getByRole('heading', { name: 'served from the workspace' }).waitFor();
      assert.deepEqual(gone, [address]);

      // What was handed over lets nobody in again.
      await stranger.context.clearCookies();
      const again = await visitor.goto(handed[0]);
      assert.ok(again.status() >= 400, `${again.status()}`);
      assert.equal(await visitor.getByText('served from the workspace').count(), 0);
      await visitor.close();
    });
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

  it('offers to start a workspace that sleeps, and goes on from there', async () => {
    await server.api('POST', `/api/workspaces/${id}/stop`);
    await page.getByTestId('view-ports').click();
    await page.getByTestId('ports-start').click();
    await page.getByTestId('ports-start').waitFor({ state: 'detached' });
    await eventually('it runs', async () => (await server.api('GET', `/api/workspaces/${id}`)).status === 'running');
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
