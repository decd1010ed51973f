// What who does not see the page hears of it, and what the keyboard reaches.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { attached, DESKTOP, PHONE, signIn, startBrowser } from './browser.mjs';
import { Server } from './server.mjs';

/** Roles of what is pressed, filled in or gone to. */
const CONTROLS = new Set(['button', 'link', 'textbox', 'searchbox', 'combobox', 'radio', 'checkbox', 'spinbutton', 'tab', 'menuitem', 'switch']);

/** The controls that have no name, as the browser tells them to a reader of the screen. */
async function nameless(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  const bad = [];
  for (const { ignored, role, name, backendDOMNodeId } of nodes) {
    if (ignored || !CONTROLS.has(role?.value) || name?.value?.trim()) continue;
    const { object } = await session.send('DOM.resolveNode', { backendNodeId: backendDOMNodeId });
    const { result } = await session.send('Runtime.callFunctionOn', { objectId: object.objectId, functionDeclaration: 'function () { return this.outerHTML.slice(0, 200); }', returnByValue: true });
    bad.push(`${role.value}: ${result.value}`);
  }
  await session.detach();
  return bad;
}

for (const [size, options] of [['a desk', DESKTOP], ['a phone', PHONE]]) {
  describe(`every screen at ${size}`, { timeout: 180_000 }, () => {
    let server, browser, page, id;

    before(async () => {
      server = await Server.start();
      await server.register();
      ({ id } = await server.workspace('named'));
      await server.writeFile(id, '/home/user/notes.md', '# Notes\n');
      await server.api('POST', `/api/workspaces/${id}/snapshots`, { name: 'first' });
      await server.api('POST', '/api/registries', { server: 'registry.example.org', username: 'ada', password: 'a secret' });
      browser = await startBrowser(options);
      page = await browser.context.newPage();
    });
    after(async () => {
      await browser?.close();
      await server?.close();
    });

    const named = async (path, shown) => {
      await page.goto(server.url + path);
      await (typeof shown === 'string' ? page.getByTestId(shown).first().waitFor() : shown());
      assert.deepEqual(await nameless(page), [], path);
    };

    it('names its controls to a stranger', () => named('/', 'login-form'));

    it('names the controls of its pages', async () => {
      await signIn(browser.context, server.url);
      await named('/', 'workspace-card');
      await named('/storage', 'snapshot');
      await named('/account', 'registry');
    });

    it('names the controls of a workspace', async () => {
      await named(`/w/${id}`, () => attached(page));
      await named(`/w/${id}/files?path=/home/user&open=notes.md`, 'editor');
      await named(`/w/${id}/ports`, 'no-ports');
      await named(`/w/${id}/snapshots`, 'snapshot');
      await named(`/w/${id}/stats`, 'stats');
      await named(`/w/${id}/settings`, 'settings');
    });

    it('names the controls of its dialogs', async () => {
      await page.goto(server.url);
      await page.getByTestId('open-palette').click();
      await page.getByTestId('palette-option').first().waitFor();
      assert.deepEqual(await nameless(page), []);
      await page.keyboard.press('Escape');
      await page.getByTestId('new-workspace').click();
      await page.locator('[data-testid=template][data-id=python]').waitFor();
      assert.deepEqual(await nameless(page), []);
    });

    it('takes a dialog from the keyboard, and gives it back', async () => {
      await page.goto(server.url);
      await page.getByTestId('new-workspace').focus();
      await page.keyboard.press('Enter');
      await page.getByTestId('workspace-name').waitFor();
      const held = () => page.evaluate(() => document.activeElement?.closest('dialog') !== null || document.activeElement === document.body);
      for (let n = 0; n < 12; n += 1) {
        await page.keyboard.press('Tab');
        assert.ok(await held(), 'the keyboard stays in the dialog');
      }
      await page.keyboard.press('Escape');
      await page.getByTestId('workspace-name').waitFor({ state: 'detached' });
      assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('data-testid')), 'new-workspace');
    });
  });
}
