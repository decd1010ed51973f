// Where an account is signed in, and what it fetches images with.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { signIn, startBrowser } from './browser.mjs';
import { Server } from './server.mjs';

describe('the account', { timeout: 90_000 }, () => {
  let server, browser, page;

  before(async () => {
    server = await Server.start();
    await server.register();
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(`${server.url}/account`);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('stores credentials of a registry, shows no password, and removes them', async () => {
    await page.getByTestId('registry-server').fill('registry.example.org:5000');
    await page.getByTestId('registry-username').fill('ada');
    await page.getByTestId('registry-password').fill('a secret word');
    await page.getByTestId('add-registry').click();
    await page.locator('[data-testid=registry][data-server="registry.example.org:5000"]').waitFor();
    assert.ok(!(await page.content()).includes('a secret word'));
    await page.getByTestId('registry-server').fill('not a host/');
    await page.getByTestId('registry-username').fill('ada');
    await page.getByTestId('registry-password').fill('x');
    await page.getByTestId('add-registry').click();
    await page.getByTestId('registry-fault').getByText('invalid_request').waitFor();
    await page.getByTestId('remove-registry').click();
    await page.getByTestId('confirm').click();
    await page.getByTestId('registry').waitFor({ state: 'detached' });
  });

  it('ends another sign-in, and then its own', async () => {
    const other = await page.getByTestId('session').count();
    assert.ok(other >= 2, 'the test itself is signed in too');
    await page.locator('[data-testid=session][data-current=false]').first().getByTestId('end-session').click();
    await page.getByTestId('session').nth(other - 1).waitFor({ state: 'detached' });
    await page.locator('[data-testid=session][data-current=true]').getByTestId('end-session').click();
    await page.getByTestId('login-form').waitFor();
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
