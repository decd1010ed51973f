// Language models on the page: switched on for a workspace, asked from inside without a key, and counted for the account.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertFits, DESKTOP, PHONE, signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';
import { USAGE, Vendor } from './vendor.mjs';

const KEY = 'sk-proj-0123456789abcdefXYZ';
const BUDGET = 10 * USAGE.total_tokens;

describe('models', { timeout: 180_000 }, () => {
  let server, vendor;

  before(async () => {
    vendor = await Vendor.start();
    server = await Server.start({
      environment: {
        LLM_PROVIDER: 'openai', LLM_BASE_URL: vendor.base, OPENAI_API_KEY: KEY, OPENROUTER_API_KEY: '', ANTHROPIC_API_KEY: '',
        REXEC_MODELS: 'gpt-5*,gpt-4o-mini', REXEC_MODELS_TOKENS_PER_DAY: String(BUDGET),
      },
    });
    await server.register();
  });
  after(async () => {
    await server?.close();
    await vendor?.close();
  });

  /** Both browsers ask from a workspace of their own, and their account's uses add up. */
  let asked = 0;

  for (const [name, options] of [['a desktop', DESKTOP], ['a phone', PHONE]]) {
    describe(`on ${name}`, () => {
      const workspace = `asks-${name.split(' ')[1]}`;
      let browser, page, id;

      const letting = (on) => page.locator(`[data-testid=let-models][aria-checked="${on}"]`);
      const logged = (allowed) => page.locator(`[data-testid=log-entry][data-how=model][data-host="llm.rexec.internal"][data-allowed=${allowed}]`);
      const use = () => page.locator(`[data-testid=model-use][data-workspace="${workspace}"][data-model=gpt-5-mini]`);
      const inside = async (script) => (await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['sh', '-c', script] })).stdout;
      const chat = (model) => inside(`curl -s -d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello?"}]}' "$OPENAI_BASE_URL/chat/completions"`);

      before(async () => {
        ({ id } = await server.workspace(workspace));
        browser = await startBrowser(options);
        await signIn(browser.context, server.url);
        page = await browser.context.newPage();
      });
      after(() => browser?.close());

      it('are offered to the account', async () => {
        await page.goto(`${server.url}/account`);
        await page.getByTestId('models-apis').getByText('OpenAI', { exact: true }).waitFor();
        await page.getByTestId('models-allowed').getByText('gpt-5*').waitFor();
        await page.getByTestId('models-today').getByText('of 12.3 k tokens').waitFor();
        if (asked === 0) await page.getByTestId('model-uses-none').getByText('OPENAI_BASE_URL').waitFor();
        await assertFits(page, 'what is offered');
      });

      it('are switched on, and asked from inside without a key', async () => {
        await page.goto(`${server.url}/w/${id}`);
        await page.getByTestId('view-egress').click();
        await letting(false).click();
        await letting(true).waitFor();
        await assertFits(page, 'the network');
        // It is on the open network until it is started again.
        await page.getByTestId('egress-restart').click();
        await page.locator('[data-testid=egress][data-network=closed][data-state=in_force]').waitFor({ timeout: 60_000 });
        await eventually('it runs', async () => (await server.api('GET', `/api/workspaces/${id}`)).status === 'running', 60_000);
        assert.equal(await inside('printf "%s %s" "$OPENAI_BASE_URL" "$OPENAI_API_KEY"'), 'http://llm.rexec.internal/v1 rexec');
        const answer = JSON.parse(await chat('gpt-5-mini'));
        asked += 1;
        assert.deepEqual([answer.choices[0].message.content, answer.usage.total_tokens], ['Hello from outside.', USAGE.total_tokens]);
        const { path, authorization, body } = vendor.asked.at(-1);
        assert.deepEqual([path, authorization, body.model], ['/v1/chat/completions', `Bearer ${KEY}`, 'gpt-5-mini']);
        assert.equal((await inside('env')).includes(KEY), false);
      });

      it('are those that the operator allows', async () => {
        const before = vendor.asked.length;
        assert.equal(JSON.parse(await chat('o3')).error.code, 'model_not_allowed');
        assert.equal(vendor.asked.length, before);
        assert.deepEqual(JSON.parse(await inside('curl -s "$OPENAI_BASE_URL/models"')).data.map((model) => model.id), ['gpt-5-mini']);
        await logged(true).getByText('to ask gpt-5-mini').waitFor();
        await logged(false).getByText('the operator does not allow this model').waitFor();
        await assertFits(page, 'the log');
      });

      it('are counted', async () => {
        await eventually('its tokens', async () => (await server.api('GET', '/api/models')).used_today === asked * USAGE.total_tokens, 30_000);
        await page.goto(`${server.url}/account`);
        for (const [at, told] of [['Requests', '1'], ['Read', '1.2 k'], ['Cached', '1 k'], ['Written', '34']]) {
          await use().locator(`[data-label=${at}]`).getByText(told, { exact: true }).waitFor();
        }
        await page.getByTestId('models-today').getByText(`${asked === 1 ? '1.2' : '2.5'} k of 12.3 k tokens`).waitFor();
        await assertFits(page, 'what was used');
      });

      it('are let to a workspace that is made', async () => {
        await page.goto(server.url);
        await page.getByTestId('new-workspace').first().click();
        await page.getByTestId('use-models').click();
        await page.getByTestId('workspace-reach').selectOption('locked');
        await assertFits(page, 'the form');
        await page.getByTestId('workspace-name').fill(`made-${name.split(' ')[1]}`);
        await page.getByTestId('create-workspace').click();
        await page.waitForURL(/\/w\/[^/]+$/, { timeout: 60_000 });
        const made = new URL(page.url()).pathname.split('/')[2];
        const { preset, models } = await server.api('GET', `/api/workspaces/${made}/egress`);
        assert.deepEqual([preset, models], ['locked', true]);
        await server.api('DELETE', `/api/workspaces/${made}?purge=true`);
      });

      it('are switched off', async () => {
        await page.goto(`${server.url}/w/${id}/egress`);
        await letting(true).click();
        await letting(false).waitFor();
        await eventually('its variable to be gone', async () => (await inside('printf %s "$OPENAI_BASE_URL"')) === '');
        assert.equal((await server.api('GET', `/api/workspaces/${id}/egress`)).models, false);
      });

      it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
    });
  }

  it('are on no page where the operator offers none', async () => {
    const without = await Server.start({ environment: { LLM_PROVIDER: '', LLM_BASE_URL: '', OPENAI_API_KEY: '', OPENROUTER_API_KEY: '', ANTHROPIC_API_KEY: '' } });
    const browser = await startBrowser();
    try {
      await without.register();
      const { id } = await without.workspace('alone');
      await signIn(browser.context, without.url);
      const page = await browser.context.newPage();
      const told = page.waitForResponse((answer) => answer.url().endsWith('/api/models'));
      await page.goto(`${without.url}/account`);
      assert.equal((await (await told).json()).openai, false);
      await page.getByTestId('secret-name').waitFor();
      assert.equal(await page.getByTestId('models').count(), 0);
      await page.goto(`${without.url}/w/${id}/egress`);
      await page.getByTestId('secrets').waitFor();
      assert.equal(await page.getByTestId('model-switch').count(), 0);
      await page.goto(without.url);
      const asked = page.waitForResponse((answer) => answer.url().endsWith('/api/models'));
      await page.getByTestId('new-workspace').first().click();
      await (await asked).finished();
      await page.getByTestId('workspace-reach').waitFor();
      assert.equal(await page.getByTestId('workspace-uses').count(), 0);
    } finally {
      await browser.close();
      await without.close();
    }
  });
});
