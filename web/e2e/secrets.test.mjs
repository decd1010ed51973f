// Secrets on the page: stored with the account, given to a workspace, and seen by nobody.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertFits, DESKTOP, PHONE, signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

const VALUE = 'sk-proj-0123456789abcdefXYZ';

describe('secrets', { timeout: 180_000 }, () => {
  let server, id;

  before(async () => {
    server = await Server.start();
    await server.register();
    ({ id } = await server.workspace('agent'));
  });
  after(() => server?.close());

  for (const [name, options] of [['a desktop', DESKTOP], ['a phone', PHONE]]) {
    describe(`on ${name}`, () => {
      let browser, page;

      const secret = (of) => page.locator(`[data-testid=secret][data-name=${of}]`);
      const choice = (given) => page.locator(`[data-testid=secret-choice][data-name=OPENAI_API_KEY][data-given=${given}]`);
      const put = async ({ name, value, hosts }) => {
        await page.getByTestId('secret-name').fill(name);
        await page.getByTestId('secret-value').fill(value);
        await page.getByTestId('secret-hosts').fill(hosts ?? '');
        await page.getByTestId('put-secret').click();
      };
      const inside = async (script) => (await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['sh', '-c', script] })).stdout;

      before(async () => {
        browser = await startBrowser(options);
        await signIn(browser.context, server.url);
        page = await browser.context.newPage();
        await page.goto(`${server.url}/account`);
      });
      after(() => browser?.close());

      it('are stored, and their values are not shown again', async () => {
        await put({ name: 'SHOP_TOKEN', value: VALUE });
        await page.getByTestId('secret-fault').getByText('is not one that is widely known').waitFor();
        await put({ name: 'SHOP_TOKEN', value: VALUE, hosts: '*.com' });
        await page.getByTestId('secret-fault').getByText('everybody').waitFor();
        await put({ name: 'SHOP_TOKEN', value: VALUE, hosts: 'api.shop.example, pay.shop.example:8443' });
        await secret('SHOP_TOKEN').getByText('api.shop.example, pay.shop.example:8443').waitFor();
        await put({ name: 'OPENAI_API_KEY', value: VALUE });
        await secret('OPENAI_API_KEY').getByText('api.openai.com').waitFor();
        assert.ok(!(await page.content()).includes(VALUE));
        await secret('SHOP_TOKEN').getByTestId('change-secret').click();
        await page.getByTestId('secret-hosts').fill('api.shop.example');
        await page.getByTestId('put-secret').click();
        await secret('SHOP_TOKEN').getByText('pay.shop.example').waitFor({ state: 'detached' });
        await assertFits(page, 'the secrets');
      });

      it('are given to a workspace, which has a placeholder, and taken away', async () => {
        await page.goto(`${server.url}/w/${id}`);
        await page.getByTestId('view-egress').click();
        await choice(false).click();
        await choice(true).waitFor();
        await assertFits(page, 'the network');
        // It may be on the open network until it is started again.
        await server.api('POST', `/api/workspaces/${id}/restart`);
        const placeholder = await eventually('its variable', async () => {
          const { status } = await server.api('GET', `/api/workspaces/${id}`);
          return status === 'running' && (await inside('printf %s "$OPENAI_API_KEY"'));
        }, 60_000);
        assert.ok(placeholder.startsWith('sk-proj-') && placeholder.length === VALUE.length && placeholder !== VALUE, placeholder);
        await choice(true).click();
        await choice(false).waitFor();
        await eventually('it to be gone', async () => (await inside('printf %s "$OPENAI_API_KEY"')) === '');
      });

      it('are chosen for a workspace that is made', async () => {
        await page.goto(server.url);
        await page.getByTestId('new-workspace').first().click();
        const use = page.locator('[data-testid=use-secret][data-name=OPENAI_API_KEY]');
        await use.click();
        assert.equal(await page.getByTestId('workspace-reach').inputValue(), 'balanced', 'what it reaches is said with it');
        await assertFits(page, 'the form');
        await page.getByTestId('workspace-name').fill(`uses-${name.split(' ')[1]}`);
        await page.getByTestId('create-workspace').click();
        await page.waitForURL(/\/w\/[^/]+$/, { timeout: 60_000 });
        const made = new URL(page.url()).pathname.split('/')[2];
        const { preset, secrets } = await server.api('GET', `/api/workspaces/${made}/egress`);
        assert.deepEqual([preset, secrets], ['balanced', ['OPENAI_API_KEY']]);
        await server.api('DELETE', `/api/workspaces/${made}?purge=true`);
      });

      it('are asked for again when they could not be listed', async () => {
        await page.route('**/api/secrets', (route) => route.fulfill({ status: 503, json: { error: { code: 'unavailable', message: 'Not now.' } } }));
        await page.goto(`${server.url}/account`);
        const failed = page.getByTestId('not-listed').filter({ hasText: 'Secrets' });
        await failed.getByText('Not now.').waitFor();
        await assertFits(page, 'what could not be listed');
        await page.unroute('**/api/secrets');
        await failed.getByTestId('list-again').click();
        await secret('OPENAI_API_KEY').waitFor();
        await failed.waitFor({ state: 'detached' });
      });

      it('are deleted', async () => {
        await page.goto(`${server.url}/account`);
        for (const name of ['SHOP_TOKEN', 'OPENAI_API_KEY']) {
          await secret(name).getByTestId('delete-secret').click();
          await page.getByTestId('confirm').click();
          await secret(name).waitFor({ state: 'detached' });
        }
      });

      it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
    });
  }
});
