// A workspace from a template: what it begins as, its set-up, and another try when that fails.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { attached, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

const TEMPLATE = `name = "Probe"
description = "A template of the tests."
icon = "terminal"
image = "rexec/base:latest"
size_mb = 100

[[setup]]
name = "Say hello"
run = "echo hello from the set-up > ~/hello.txt"
timeout_s = 60

[[setup]]
name = "Look for the key"
run = "echo looking; until test -e ~/go; do sleep 0.1; done; test -e ~/key || { echo there is no key; exit 3; }"
timeout_s = 60
`;

describe('a workspace from a template', { timeout: 120_000 }, () => {
  let server, browser, page, folder, id;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rexec-templates-'));
    await writeFile(join(folder, 'probe.toml'), TEMPLATE);
    server = await Server.start({ environment: { REXEC_TEMPLATES_DIR: folder } });
    await server.register();
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(server.url);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('refuses a repository that it cannot clone, beside its field', async () => {
    await page.getByTestId('new-workspace').click();
    await page.locator('[data-testid=template][data-id=python]').waitFor();
    await page.getByTestId('workspace-git').fill('file:///etc');
    await page.getByTestId('create-workspace').click();
    await page.locator('[data-testid=workspace-git][aria-invalid=true]').waitFor();
    await page.getByTestId('workspace-git').fill('');
  });

  it('wants the name of an image where any image is chosen, and makes nothing without it', async () => {
    await page.locator('[data-testid=template][data-id=image]').click();
    await page.getByTestId('create-workspace').click();
    await page.locator('[data-testid=workspace-image][aria-invalid=true]').waitFor();
    await page.getByTestId('new-workspace-form').getByText('Name the image').waitFor();
    assert.equal((await server.api('GET', '/api/workspaces')).items.length, 0);
  });

  it('is chosen by its card, and its set-up is told', async () => {
    await page.locator('[data-testid=template][data-id=probe]').click();
    await page.getByTestId('workspace-name').fill('probe');
    await page.getByTestId('create-workspace').click();
    await attached(page);
    await page.locator('[data-testid=setup][data-state=running]').getByText('Look for the key').waitFor();
    id = (await server.api('GET', '/api/workspaces')).items[0].id;
    assert.equal(await server.file(id, '/home/user/hello.txt'), 'hello from the set-up\n');
  });

  it('lets one watch the terminal in which a step runs', async () => {
    // Whether its terminal was there when the page asked for them depends; a further one hides it.
    const tabs = await page.getByTestId('terminal-tab').count();
    await page.getByTestId('new-terminal').click();
    await page.getByTestId('terminal-tab').nth(tabs).waitFor();
    await page.getByTestId('setup-watch').click();
    await waitForText(page, 'looking');
    await page.getByTestId('setup-watch').waitFor({ state: 'detached' });
  });

  it('shows what a failed step has printed', async () => {
    await server.writeFile(id, '/home/user/go', '');
    await page.locator('[data-testid=setup][data-state=failed]').waitFor();
    await page.getByTestId('setup-output').getByText('there is no key').waitFor();
  });

  it('tries again when told to', async () => {
    await server.writeFile(id, '/home/user/key', 'a key');
    await page.getByTestId('setup-retry').click();
    await page.getByTestId('setup').waitFor({ state: 'detached' });
    assert.equal((await server.api('GET', `/api/workspaces/${id}/setup`)).state, 'done');
  });

  it('opens a shell beside the terminal of a step that runs', async () => {
    const made = await server.api('POST', '/api/workspaces', { name: 'beside', template: 'probe' });
    await eventually('the second step runs', async () => {
      const { steps } = await server.api('GET', `/api/workspaces/${made.id}/setup`);
      return steps[1].state === 'running' && (await server.api('GET', `/api/workspaces/${made.id}/terminals`)).items.some(({ id }) => id === steps[1].terminal_id);
    });
    await page.goto(`${server.url}/w/${made.id}`);
    await waitForText(page, '$');
    await page.getByTestId('setup-watch').click();
    await waitForText(page, 'looking');
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
