// GitHub on the page: repositories are given to a workspace, which has a placeholder and no token, and are taken away.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertFits, DESKTOP, PHONE, signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

/** What a server needs to offer it; nobody at GitHub is asked for it. */
const TOKEN = 'ghp_0123456789abcdefghijABCDEFGHIJ012345';
const NOT_AN_APP = { REXEC_GITHUB_APP_ID: '', REXEC_GITHUB_APP_KEY: '', REXEC_GITHUB_URL: '', REXEC_GITHUB_FOR: '' };

describe('GitHub', { timeout: 180_000 }, () => {
  let server;

  before(async () => {
    server = await Server.start({ environment: { ...NOT_AN_APP, GITHUB_TOKEN: TOKEN, REXEC_GITHUB_REPOSITORIES: 'acme/*' } });
    await server.register();
    await server.api('PUT', '/api/secrets/GH_TOKEN', { value: TOKEN });
  });
  after(() => server?.close());

  for (const [name, options] of [['a desktop', DESKTOP], ['a phone', PHONE]]) {
    describe(`on ${name}`, () => {
      let browser, page, id;

      const block = (given) => page.locator(`[data-testid=github][data-given=${given}]`);
      const field = (of) => page.getByTestId(`github-${of}`);
      const note = (of) => page.getByTestId(`github-${of}-note`);
      const settings = async () => (await server.api('GET', `/api/workspaces/${id}/egress`)).github;
      const inside = async (script) => (await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['sh', '-c', script] })).stdout;

      before(async () => {
        ({ id } = await server.workspace(`pushes-${name.split(' ')[1]}`));
        browser = await startBrowser(options);
        await signIn(browser.context, server.url);
        page = await browser.context.newPage();
        await page.goto(`${server.url}/w/${id}`);
        await page.getByTestId('view-egress').click();
      });
      after(() => browser?.close());

      it('tells beside a field what is wrong there, and what was typed stays', async () => {
        await block(false).waitFor();
        await page.getByTestId('github-stands').getByText('what everybody sees').waitFor();
        assert.equal(await field('save').isDisabled(), true, 'nothing is named');
        await field('repositories').fill('acme');
        await field('save').click();
        await note('repositories').getByText('write owner/name, or owner/* for all of an owner').waitFor();
        assert.equal(await field('repositories').getAttribute('aria-invalid'), 'true');
        assert.equal(await field('repositories').inputValue(), 'acme');
        await field('repositories').fill('acme/app, other/thing');
        await field('save').click();
        await note('repositories').getByText('other/thing: its operator bounds it by REXEC_GITHUB_REPOSITORIES').waitFor();
        await field('repositories').fill('acme/app, acme/lib.git');
        await field('branches').fill('a*b');
        await field('save').click();
        await note('branches').getByText('* may be its last character alone').waitFor();
        assert.equal(await field('repositories').getAttribute('aria-invalid'), 'false');
        await page.getByTestId('github-stands').getByText('It was not saved.').waitFor();
        await assertFits(page, 'a refusal');
        assert.equal(await settings(), null);
      });

      it('gives repositories, and branches of them', async () => {
        await field('branches').fill('agent/*\nnext');
        await field('save').click();
        await block(true).waitFor();
        await page.getByTestId('github-stands').getByText('Once restarted, it reads acme/app and acme/lib, and pushes to agent/* and next alone.').waitFor();
        assert.equal(await field('repositories').inputValue(), 'acme/app\nacme/lib', 'as the server has it');
        assert.equal(await field('save').isDisabled(), true, 'nothing has changed');
        assert.deepEqual(await settings(), { repositories: ['acme/app', 'acme/lib'], branches: ['agent/*', 'next'] });
        await assertFits(page, 'what it may do');
      });

      it('keeps what is typed while the page asks for news', async () => {
        await field('repositories').fill('acme/app\nacme/other');
        await page.waitForResponse((answer) => answer.url().endsWith(`${id}/egress`));
        await page.waitForResponse((answer) => answer.url().endsWith(`${id}/egress`));
        assert.equal(await field('repositories').inputValue(), 'acme/app\nacme/other');
        await field('repositories').fill('acme/app\nacme/lib');
      });

      it('keeps repositories when something else is changed', async () => {
        await page.getByTestId('rule-deny').fill('ads.example');
        await page.getByTestId('add-deny').click();
        await page.locator('[data-testid=own-deny][data-rule="ads.example"]').waitFor();
        assert.deepEqual((await settings()).repositories, ['acme/app', 'acme/lib']);
      });

      it('refuses a token of its own beside, in words', async () => {
        await page.locator('[data-testid=secret-choice][data-name=GH_TOKEN]').click();
        await page.getByTestId('toast').getByText('by the secret GH_TOKEN, not by both').waitFor();
        const choice = page.locator('[data-testid=secret-choice][data-name=GH_TOKEN][data-given=false]');
        await eventually('it to be unticked', async () => !(await choice.getByRole('checkbox').isChecked()));
      });

      it('has a placeholder inside, and no token', async () => {
        // It is on the open network until it is started again.
        await page.getByTestId('egress-restart').click();
        await page.locator('[data-testid=egress][data-network=closed][data-state=in_force]').waitFor({ timeout: 60_000 });
        await eventually('it runs', async () => (await server.api('GET', `/api/workspaces/${id}`)).status === 'running', 60_000);
        const placeholder = await inside('printf %s "$GITHUB_TOKEN"');
        assert.match(placeholder, /^ghs_[A-Za-z0-9]{36}$/);
        assert.equal((await inside('env')).includes(TOKEN), false);
      });

      it('logs what is not its to do there', async () => {
        const code = await inside('curl -s -o /dev/null -w "%{http_code}" -X DELETE https://api.github.com/repos/acme/app');
        assert.equal(code, '403');
        await page.locator('[data-testid=log-entry][data-allowed=false][data-host="api.github.com"]').getByText('not what it may do at GitHub').waitFor();
        await assertFits(page, 'the log');
      });

      it('makes it read only', async () => {
        await field('repositories').fill('acme/app');
        await field('read-only').check();
        assert.equal(await field('branches').isDisabled(), true);
        await page.getByTestId('github-stands').getByText('Once saved, it reads acme/app, and changes nothing there.').waitFor();
        await field('save').click();
        await page.getByTestId('github-stands').getByText(/^It reads acme\/app, and changes nothing there\.$/).waitFor();
        assert.deepEqual(await settings(), { repositories: ['acme/app'], read_only: true });
      });

      it('takes it away', async () => {
        await field('take').click();
        await block(false).waitFor();
        assert.equal(await field('repositories').inputValue(), '');
        assert.equal(await settings(), null);
        await eventually('its variable to be gone', async () => (await inside('printf %s "$GITHUB_TOKEN"')) === '');
      });

      it('has a token of the account\'s own, or repositories', async () => {
        const choice = (given) => page.locator(`[data-testid=secret-choice][data-name=GH_TOKEN][data-given=${given}]`);
        await choice(false).click();
        await choice(true).waitFor();
        await field('repositories').fill('acme/app');
        await field('save').click();
        await page.getByTestId('github-stands').getByText('by the secret GH_TOKEN, not by both').waitFor();
        await assertFits(page, 'a refusal of both');
      });

      it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
    });
  }

  it('is on no page where the operator offers none', async () => {
    const without = await Server.start({ environment: { ...NOT_AN_APP, GITHUB_TOKEN: '' } });
    const browser = await startBrowser();
    try {
      await without.register();
      const { id } = await without.workspace('alone');
      await signIn(browser.context, without.url);
      const page = await browser.context.newPage();
      await page.goto(`${without.url}/w/${id}/egress`);
      await page.getByTestId('secrets').waitFor();
      assert.equal(await page.getByTestId('github').count(), 0);
    } finally {
      await browser.close();
      await without.close();
    }
  });
});
