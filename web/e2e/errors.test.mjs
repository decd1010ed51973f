// What a user sees when something is refused, and what other sites may not do.
import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { attached, command, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { EMAIL, PASSWORD, Server } from './server.mjs';

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;

/** Tries to open a WebSocket from the page: whether it opened, and how it closed otherwise. */
const dial = (page, url) =>
  page.evaluate(
    (address) =>
      new Promise((resolve) => {
        const socket = new WebSocket(address, 'rexec.terminal.v1');
        socket.onopen = () => (socket.close(), resolve('opened'));
        socket.onerror = () => resolve('refused');
      }),
    url,
  );

/** The answer to an upgrade that was refused. */
async function upgrade(url, headers) {
  const asked = request(url, {
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-protocol': 'rexec.terminal.v1',
      ...headers,
    },
  });
  asked.end();
  const [response] = await once(asked, 'response');
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, body: JSON.parse(text) };
}

describe('refusals', { timeout: 120_000 }, () => {
  let server, browser, page, workspace, terminal;

  before(async () => {
    server = await Server.start();
    await server.register();
    workspace = (await server.workspace('careful')).id;
    browser = await startBrowser();
    page = await browser.context.newPage();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('makes no one wait for the engine by hand: a request right after a start is served', async () => {
    await server.stop();
    await server.boot();
    const { id } = await server.api('POST', '/api/workspaces', { name: 'early', wait_ms: 0 });
    await server.api('DELETE', `/api/workspaces/${id}`);
    await eventually('only the first is left', async () => (await server.api('GET', '/api/workspaces')).items.length === 1);
  });

  it('does not say whether e-mail or password was wrong, and lets one try again', async () => {
    await page.goto(server.url);
    await page.getByTestId('login-form').waitFor();
    const told = [];
    for (const [email, password] of [[EMAIL, 'not the password'], ['nobody@example.org', PASSWORD]]) {
      await page.getByTestId('email').fill(email);
      await page.getByTestId('password').fill(password);
      const answered = page.waitForResponse(/\/api\/auth\/login$/);
      await page.getByTestId('submit').click();
      assert.equal((await (await answered).json()).error.code, 'bad_credentials');
      await page.getByTestId('form-error').getByText(/\w/).waitFor();
      told.push(await page.getByTestId('form-error').innerText());
    }
    assert.equal(told[0], told[1]);
    await page.getByTestId('email').fill(EMAIL);
    await page.getByTestId('password').fill(PASSWORD);
    await page.getByTestId('submit').click();
    await page.getByTestId('workspace-card').waitFor();
  });

  it('says of an unknown address that there is no such page, and leads on', async () => {
    await page.goto(`${server.url}/nope`);
    await page.getByTestId('not-found').getByText('There is no such page').waitFor();
    await page.getByTestId('not-found-home').click();
    await page.getByTestId('workspace-card').waitFor();
    assert.equal(new URL(page.url()).pathname, '/');
  });

  it('quotes code, advice and request id of a refused name in a toast', async () => {
    await page.getByTestId('action-rename').click();
    await page.getByTestId('rename').fill('bell\u0007rung');
    const answered = page.waitForResponse((response) => response.request().method() === 'PATCH');
    await page.keyboard.press('Enter');
    const { error } = await (await answered).json();
    assert.equal(error.code, 'invalid_request');
    const toast = page.getByTestId('toast');
    await toast.waitFor();
    assert.equal(await toast.getByTestId('toast-code').innerText(), error.code);
    assert.match(await toast.getByTestId('toast-request').innerText(), UUID);
    assert.ok((await toast.getByTestId('toast-request').innerText()).includes(error.request_id));
    assert.ok((await toast.innerText()).includes(error.message));
    await toast.getByLabel('Dismiss').click();
    await toast.waitFor({ state: 'detached' });
    assert.equal((await server.api('GET', `/api/workspaces/${workspace}`)).name, 'careful');
  });

  it('blames the field of a refused name, and keeps the form', async () => {
    await page.getByTestId('new-workspace').click();
    await page.getByTestId('workspace-name').fill('bell\u0007rung');
    await page.getByTestId('create-workspace').click();
    await page.locator('[data-testid=workspace-name][aria-invalid=true]').waitFor();
    await page.keyboard.press('Escape');
    assert.equal((await server.api('GET', '/api/workspaces')).items.length, 1);
  });

  it('says why an unknown image does not start, and leaves nothing running', async () => {
    await page.getByTestId('new-workspace').click();
    await page.locator('[data-testid=template][data-id=image]').click();
    await page.getByTestId('workspace-image').fill('127.0.0.1:1/no/such:image');
    await page.getByTestId('create-workspace').click();
    const standing = page.locator('[data-testid=standing][data-status=error]');
    const field = page.locator('[data-testid=workspace-image][aria-invalid=true]');
    await standing.or(field).waitFor({ timeout: 60_000 });
    const text = (await field.count()) > 0 ? await page.getByTestId('new-workspace-form').innerText() : await standing.innerText();
    assert.match(text, /image/i);
  });

  it('refuses a WebSocket from a foreign origin, with the cookie and all', async () => {
    await page.goto(`${server.url}/w/${workspace}`);
    terminal = await attached(page);
    await command(page, 'echo "here $((6 * 7))"', 'here 42');
    const path = `/api/workspaces/${workspace}/terminals/${terminal}/ws`;
    const socket = `ws://127.0.0.1:${server.port}${path}`;
    assert.equal(await dial(page, socket), 'opened');
    // Another port of the same machine is another origin, to which the browser sends the same cookies.
    const foreign = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<title>elsewhere</title>'));
    foreign.listen(0, '127.0.0.1');
    await once(foreign, 'listening');
    try {
      const elsewhere = await browser.context.newPage();
      const origin = `http://127.0.0.1:${foreign.address().port}`;
      await elsewhere.goto(origin);
      assert.equal(await dial(elsewhere, socket), 'refused');
      await elsewhere.close();
      const cookie = (await browser.context.cookies(server.url)).map(({ name, value }) => `${name}=${value}`).join('; ');
      const answer = await upgrade(server.url + path, { origin, cookie });
      assert.deepEqual([answer.status, answer.body.error.code], [403, 'foreign_origin']);
    } finally {
      foreign.close();
    }
  });

  it('asks for the sign-in when the session is revoked, and goes on where it was', async () => {
    await waitForText(page, 'here 42');
    const { items } = await server.api('GET', '/api/auth/sessions');
    const others = items.filter(({ current }) => !current);
    assert.ok(others.length > 0, 'the page has a session of its own');
    for (const { id } of others) await server.api('DELETE', `/api/auth/sessions/${id}`);
    await page.getByTestId('login-form').waitFor();
    await page.getByTestId('email').fill(EMAIL);
    await page.getByTestId('password').fill(PASSWORD);
    await page.getByTestId('submit').click();
    assert.equal(await attached(page), terminal);
    await waitForText(page, 'here 42');
  });

  it('shows nothing of a workspace that is not there, and JSON for what is no route', async () => {
    await page.goto(`${server.url}/w/01a1fa0b-28d9-7212-a776-f7d492b0f5cd`);
    await page.getByTestId('no-workspace').waitFor();
    const answer = await server.ask('GET', '/api/nothing');
    assert.deepEqual([answer.status, answer.body.error.code], [404, 'no_such_route']);
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
