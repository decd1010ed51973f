// What a workspace may reach outside: chosen, seen in force, and mended from the log of what was refused.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertFits, DESKTOP, PHONE, signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

/** Entries of a page of the log. */
const PAGE = 100;

describe('what a workspace may reach', { timeout: 240_000 }, () => {
  let server;

  before(async () => {
    server = await Server.start();
    await server.register();
  });
  after(() => server?.close());

  for (const [name, options] of [['a desktop', DESKTOP], ['a phone', PHONE]]) {
    describe(`on ${name}`, () => {
      let browser, page, id;

      const panel = (state) => page.locator(`[data-testid=egress]${state}`);
      const preset = (of) => page.locator(`[data-testid=preset][data-preset=${of}]`);
      const own = (kind, rule) => page.locator(`[data-testid=own-${kind}][data-rule="${rule}"]`);
      const refused = (host) => page.locator(`[data-testid=log-entry][data-allowed=false][data-how=connect][data-host="${host}"]`);
      const egress = () => server.api('GET', `/api/workspaces/${id}/egress`);
      /** Asks the gateway for a host as a program in the workspace would; it does not matter that nothing is there. */
      const ask = (host, port) => server.api('POST', `/api/workspaces/${id}/exec`, { command: ['bash', '-lc', `timeout 10 /.rexec/current/guest tunnel "\${https_proxy#http://}" ${host} ${port} </dev/null`] });

      before(async () => {
        ({ id } = await server.workspace(`reach-${name.split(' ')[1]}`));
        browser = await startBrowser(options);
        await signIn(browser.context, server.url);
        page = await browser.context.newPage();
        await page.goto(`${server.url}/w/${id}`);
      });
      after(() => browser?.close());

      it('tells what holds, and that the open network records nothing', async () => {
        await page.getByTestId('view-egress').click();
        await panel('[data-preset=open][data-network=open][data-state=in_force]').waitFor();
        await page.getByTestId('log-empty').getByText('begins with Balanced or Locked').waitFor();
        await assertFits(page, 'the open network');
      });

      it('is locked, which holds once it is restarted', async () => {
        await preset('locked').click();
        await panel('[data-preset=locked][data-state=next_start]').waitFor();
        await page.getByTestId('egress-standing').getByText('still reaches the whole public internet').waitFor();
        await page.getByTestId('egress-restart').click();
        await panel('[data-network=closed][data-state=in_force]').waitFor({ timeout: 60_000 });
        await page.getByTestId('egress-restart').waitFor({ state: 'detached' });
        await eventually('it runs', async () => (await server.api('GET', `/api/workspaces/${id}`)).status === 'running', 60_000);
      });

      it('takes a rule, tells what is wrong with another, and lets one go', async () => {
        await page.getByTestId('rule-allow').fill('Registry.Example:8443');
        await page.getByTestId('add-allow').click();
        await own('allow', 'registry.example:8443').waitFor();
        // News of it may be quicker than its answer.
        await eventually('the field to be empty', async () => (await page.getByTestId('rule-allow').inputValue()) === '');
        await page.getByTestId('rule-deny').fill('https://a.example/');
        await page.getByTestId('rule-deny').press('Enter');
        await page.getByTestId('fault-deny').getByText('this is a URL: write the host alone').waitFor();
        assert.equal(await page.getByTestId('rule-deny').getAttribute('aria-invalid'), 'true');
        assert.equal(await page.getByTestId('rule-deny').inputValue(), 'https://a.example/', 'what was typed can be mended');
        await page.getByTestId('rule-deny').fill('ads.example');
        await page.getByTestId('add-deny').click();
        await own('deny', 'ads.example').waitFor();
        await assertFits(page, 'the rules');
        await own('deny', 'ads.example').getByTestId('remove-rule').click();
        await own('deny', 'ads.example').waitFor({ state: 'detached' });
        const { allow, deny } = await egress();
        assert.deepEqual([allow, deny], [['registry.example:8443'], []]);
      });

      it('shows what was refused by itself, and allows it by one click', async () => {
        await ask('a.example', 443);
        await ask('db.example', 5432);
        await refused('a.example').getByText('no rule allows it').waitFor();
        await refused('a.example').getByTestId('log-allow').click();
        await own('allow', 'a.example').waitFor();
        await refused('a.example').getByTestId('log-allowed').waitFor();
        await refused('db.example').getByTestId('log-allow').click();
        await own('allow', 'db.example:5432').waitFor();
        assert.deepEqual((await egress()).allow, ['registry.example:8443', 'a.example', 'db.example:5432']);
        await ask('soon.example', 443);
        await refused('soon.example').getByTestId('log-lend').click();
        await page.locator('[data-testid=lent][data-rule="soon.example"]').waitFor();
        assert.deepEqual((await egress()).lent.map(({ rule }) => rule), ['soon.example']);
        await page.locator('[data-testid=lent][data-rule="soon.example"]').getByTestId('remove-lent').click();
        await page.locator('[data-testid=lent]').waitFor({ state: 'detached' });
        await assertFits(page, 'the log');
      });

      it('shows alone what was refused', async () => {
        await ask('a.example', 443);
        await page.locator('[data-testid=log-entry][data-host="a.example"]').first().waitFor();
        await page.getByTestId('log-denied').check({ force: true });
        await refused('db.example').waitFor();
        assert.equal(await page.locator('[data-testid=log-entry][data-allowed=true]').count(), 0);
      });

      it('goes on to older entries, and keeps them as new ones come', async () => {
        await page.getByTestId('log-all').check({ force: true });
        const many = `for n in $(seq ${PAGE + 5}); do timeout 10 /.rexec/current/guest tunnel "\${https_proxy#http://}" n$n.example 443 </dev/null; done`;
        await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['bash', '-lc', many] });
        const isThere = async () => (await server.api('GET', `/api/workspaces/${id}/egress/log`)).items.some(({ host }) => host === `n${PAGE + 5}.example`);
        await eventually('the last to be written down', isThere, 30_000);
        // Whoever watched as they came has all of them already.
        await page.reload();
        await refused(`n${PAGE + 5}.example`).waitFor();
        await page.getByTestId('log-more').click();
        await refused('n1.example').waitFor();
        await ask('last.example', 443);
        await refused('last.example').waitFor();
        assert.equal(await refused('n1.example').count(), 1);
        await page.getByTestId('log-more').waitFor({ state: 'detached' });
      });

      it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
    });
  }

  it('is chosen with the workspace', async () => {
    const browser = await startBrowser();
    try {
      await signIn(browser.context, server.url);
      const page = await browser.context.newPage();
      await page.goto(server.url);
      await page.getByTestId('new-workspace').click();
      await page.getByTestId('workspace-name').fill('chosen');
      await page.getByTestId('workspace-reach').selectOption({ value: 'balanced' });
      await page.getByTestId('create-workspace').click();
      await page.waitForURL(/\/w\//);
      await page.getByTestId('view-egress').click();
      await page.locator('[data-testid=egress][data-preset=balanced]').waitFor();
      await page.locator('[data-testid=egress][data-network=closed][data-state=in_force]').waitFor();
      // One that is deleted while it is made keeps the test waiting.
      await eventually('all run', async () => (await server.api('GET', '/api/workspaces')).items.every(({ status }) => status === 'running'), 60_000);
      assert.deepEqual(browser.faults, []);
    } finally {
      await browser.close();
    }
  });
});
