// The servers that workspaces run on, as an administrator looks after them: a second engine is added, is placed upon, goes and comes back.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertFits, PHONE, signIn, startBrowser } from './browser.mjs';
import { Dockerd } from './dockerd.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

describe('servers', { timeout: 240_000 }, () => {
  let server, daemon, browser, page;
  const card = (name) => page.locator(`[data-testid=server][data-name="${name}"]`);
  const fault = (field) => page.locator(`[data-testid="server-${field}"][aria-invalid=true] + p`);

  /** Opens the menu of a server and chooses. */
  async function choose(name, item) {
    await card(name).getByTestId('server-menu').click();
    await page.getByTestId(`menu-${item}`).click();
  }

  /** Sends the form, and waits for what is told beside a field. */
  async function refused(field, words) {
    await page.getByTestId('server-add').click();
    await fault(field).getByText(words).waitFor();
    assert.equal(await page.locator('[aria-invalid=true]').count(), 1);
  }

  before(async () => {
    [daemon, server] = await Promise.all([Dockerd.start(), Server.start()]);
    await server.register();
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(server.url);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    await daemon?.close();
  });

  it('shows the local server, how full it is and what it is', async () => {
    await page.getByTestId('page-servers').click();
    await page.locator('[data-testid=fleet][data-status=ok]').getByText('The server is ready.').waitFor();
    await card('local').locator('[data-testid=server-cpu]').getByText(/^0 of [\d.]+ cores?$/).waitFor();
    await card('local').getByTestId('server-more').click();
    await card('local').getByTestId('server-facts').getByText('Known since').waitFor();
    await choose('local', 'test');
    await page.getByTestId('toast').getByText('local answers and is fit').waitFor();
  });

  it('tells what is wrong beside the field that it concerns', async () => {
    await page.getByTestId('new-server').click();
    await refused('name', 'Give it a name');
    await page.getByTestId('server-name').fill('no spaces, please');
    await page.getByTestId('server-way-socket').check({ force: true });
    await refused('socket', 'Name the socket');
    await page.getByTestId('server-socket').fill('/nowhere/docker.sock');
    await refused('name', 'letters, digits, dots');
    await page.getByTestId('server-name').fill('second');
    await refused('socket', 'there is no socket. Start the engine');
    // The engine that there is, by its own address.
    const { items } = await server.api('GET', '/api/admin/servers');
    await page.getByTestId('server-socket').fill(items[0].address.replace('unix://', ''));
    await refused('socket', 'is the server local already');
    await page.getByTestId('server-way-tls').check({ force: true });
    await refused('hostname', 'Say where it is');
    await page.getByTestId('server-hostname').fill('no-such-host.invalid');
    await page.getByTestId('server-tls_ca_path').fill('/nowhere/ca.pem');
    await refused('tls_cert_path', 'takes all three');
    await page.getByTestId('server-tls_cert_path').fill('/nowhere/cert.pem');
    await page.getByTestId('server-tls_key_path').fill('/nowhere/key.pem');
    await refused('tls_ca_path', '/nowhere/ca.pem cannot be read');
    await page.getByTestId('server-material-pem').check();
    for (const field of ['tls_ca', 'tls_cert', 'tls_key']) await page.getByTestId(`server-${field}`).fill('no PEM');
    await refused('tls_ca', 'no certificate in it');
    await page.getByTestId('server-way-ssh').check({ force: true });
    await page.getByTestId('server-ssh.user').fill('rexec');
    await page.getByTestId('server-ssh.private_key').fill('no key');
    await refused('ssh.private_key', 'private key cannot be used');
    const nothing = await server.api('GET', '/api/admin/servers');
    assert.deepEqual(nothing.items.map(({ name }) => name), ['local']);
  });

  it('adds a second engine and says what was found', async () => {
    await page.getByTestId('server-way-socket').check({ force: true });
    await page.getByTestId('server-socket').fill(daemon.socket);
    await page.getByTestId('server-region').fill('cellar');
    await page.getByTestId('server-room').click();
    await page.getByTestId('server-architecture').fill('s390x');
    await refused('architecture', 's390x was asked for');
    await page.getByTestId('server-architecture').fill('');
    await page.getByTestId('server-labels').fill('disk=nvme');
    await page.getByTestId('server-add').click();
    await page.getByTestId('server-found').getByText('Engine').waitFor({ timeout: 90_000 });
    await page.getByTestId('server-found-done').click();
    assert.equal(await card('second').getAttribute('data-health'), 'ready');
    await page.getByTestId('fleet').getByText('All 2 servers are ready.').waitFor();
    await page.locator('[data-testid=region][data-name=cellar]').getByText('1', { exact: true }).waitFor();
  });

  it('offers its region and its name to a new workspace', async () => {
    await page.goto(server.url);
    await page.getByTestId('new-workspace').click();
    await page.getByTestId('workspace-region').locator('option', { hasText: /^cellar \([\d.]+ ms\)$/ }).waitFor({ state: 'attached' });
    await page.getByTestId('workspace-region').selectOption('cellar');
    assert.deepEqual(await page.getByTestId('workspace-host').locator('option').allInnerTexts(), ['any', 'second']);
    await page.getByTestId('workspace-host').selectOption('second');
    const [made] = await Promise.all([
      page.waitForRequest((request) => request.method() === 'POST' && request.url().endsWith('/api/workspaces')),
      page.getByTestId('create-workspace').click(),
    ]);
    const { region, host } = made.postDataJSON();
    assert.deepEqual({ region, host }, { region: 'cellar', host: 'second' });
    // Whoever leaves the page before that takes the request back.
    await eventually('it to be recorded', async () => (await server.api('GET', '/api/workspaces')).items.length > 0);
  });

  it('changes, drains and activates it', async () => {
    await page.goto(`${server.url}/servers`);
    await choose('second', 'edit');
    await page.getByTestId('server-total_memory_mb').fill('a lot');
    await page.getByTestId('server-save').click();
    await fault('total_memory_mb').getByText('Give a whole number').waitFor();
    await page.getByTestId('server-total_memory_mb').fill('2048');
    await page.getByTestId('server-max_workspaces').fill('7');
    await page.getByTestId('server-region').fill('attic');
    await page.getByTestId('server-save').click();
    await page.getByTestId('edit-server-form').waitFor({ state: 'detached' });
    await card('second').getByTestId('server-memory').getByText('of 2 GiB').waitFor();
    await card('second').getByTestId('server-workspaces').getByText('of 7').waitFor();
    await page.locator('[data-testid=region][data-name=attic]').waitFor();
    await choose('second', 'edit');
    await page.getByTestId('server-anew').click();
    assert.equal(await page.getByTestId('server-socket').inputValue(), daemon.socket);
    await page.getByTestId('server-socket').fill('/nowhere/docker.sock');
    await page.getByTestId('server-save').click();
    await fault('socket').getByText('there is no socket').waitFor();
    await page.getByTestId('server-socket').fill(daemon.socket);
    await page.getByTestId('server-save').click();
    await page.getByTestId('edit-server-form').waitFor({ state: 'detached' });
    assert.equal(await card('second').getAttribute('data-health'), 'ready');
    await card('second').getByTestId('server-drain').click();
    await page.locator('[data-testid=server][data-name=second][data-state=draining]').waitFor();
    await page.locator('[data-testid=region][data-name=attic]').getByText('0', { exact: true }).waitFor();
    await card('second').getByTestId('server-activate').click();
    await page.locator('[data-testid=server][data-name=second][data-state=active]').waitFor();
  });

  it('limits a region', async () => {
    await page.locator('[data-testid=region][data-name=attic]').click();
    await page.getByTestId('region-latency').getByText(/^[\d.]+ ms$/).waitFor();
    await page.getByTestId('region-limit').fill('many');
    await page.getByTestId('region-save').click();
    await page.locator('#region-limit-note').getByText('Give a whole number, or nothing.').waitFor();
    await page.getByTestId('region-limit').fill('0');
    await page.getByTestId('region-save').click();
    await page.getByTestId('region-form').waitFor({ state: 'detached' });
    await page.locator('[data-testid=region][data-name=attic]').getByText('full').waitFor();
    await page.locator('[data-testid=region][data-name=attic]').click();
    await page.getByTestId('region-limit').fill('');
    await page.getByTestId('region-save').click();
    await page.locator('[data-testid=region][data-name=attic]').getByText('full').waitFor({ state: 'detached' });
  });

  it('fits a phone beside a long address', async () => {
    const hand = await startBrowser(PHONE);
    try {
      await signIn(hand.context, server.url);
      const small = await hand.context.newPage();
      await small.goto(`${server.url}/servers`);
      const own = small.locator('[data-testid=server][data-name=second]');
      await own.waitFor();
      await assertFits(small, 'the list of two servers');
      await own.getByTestId('server-menu').click();
      await small.getByTestId('menu-edit').click();
      await small.getByTestId('edit-server-form').waitFor();
      await assertFits(small, 'the form of a server that is changed');
    } finally {
      await hand.close();
    }
  });

  it('says why it is out of reach, by itself, and that it is back', async () => {
    await daemon.pause();
    // Nobody asks: the page looks again at its slow pace.
    await page.locator('[data-testid=server][data-name=second][data-health=offline]').getByTestId('server-reason').waitFor({ timeout: 60_000 });
    await page.locator('[data-testid=fleet][data-status=degraded]').getByText('1 of 2 servers are ready.').waitFor();
    await card('second').getByTestId('server-test').click();
    await card('second').getByTestId('server-refusal').getByText('second is not fit.').waitFor({ timeout: 60_000 });
    await daemon.resume();
    await page.locator('[data-testid=server][data-name=second][data-health=ready]').waitFor({ timeout: 60_000 });
  });

  it('deletes it only when nothing lies there', async () => {
    await eventually('a workspace to be taken or refused', async () => (await server.api('GET', '/api/workspaces')).items.every(({ status }) => !['pending', 'pulling', 'creating'].includes(status)), 60_000);
    const { items } = await server.api('GET', '/api/workspaces');
    assert.ok(items.length > 0, 'the workspace was made there');
    await choose('second', 'delete');
    await page.getByTestId('confirm').click();
    await card('second').getByTestId('server-refusal').getByText(/second was not deleted\. On it lie still: \d workspaces?\./).waitFor();
    for (const { id } of items) await server.api('DELETE', `/api/workspaces/${id}?purge=true`);
    await eventually('it is empty', async () => (await server.api('GET', '/api/workspaces')).items.every(({ status }) => status === 'deleted'), 60_000);
    await choose('second', 'delete');
    await page.getByTestId('confirm').click();
    await card('second').waitFor({ state: 'detached' });
    assert.equal(await card('local').getByTestId('server-menu').count(), 1);
  });

  it('writes off one that does not come back, once its name was typed', async () => {
    await server.api('POST', '/api/admin/servers', { name: 'second', socket: daemon.socket, region: 'cellar' });
    await server.api('POST', '/api/workspaces', { host: 'second', memory_mb: 64, wait_ms: 0 });
    await daemon.pause();
    await page.locator('[data-testid=server][data-name=second][data-health=offline]').waitFor({ timeout: 60_000 });
    await choose('second', 'lost');
    const [confirm, word] = [page.getByTestId('confirm'), page.getByTestId('confirm-word')];
    assert.ok(await confirm.isDisabled());
    await page.getByText('Its workspace is deleted here').waitFor();
    await word.fill('secon');
    assert.ok(await confirm.isDisabled());
    await word.fill('second');
    await confirm.click();
    await page.getByText('With it: 1 workspace, 0 kept homes, 0 snapshots.').waitFor();
    await card('second').waitFor({ state: 'detached' });
    assert.deepEqual((await server.api('GET', '/api/workspaces')).items, []);
  });

  it('is read anew at a slow pace, and only while it is in sight', async () => {
    const timed = await browser.context.newPage();
    let asked = 0;
    timed.on('request', (request) => (asked += request.url().endsWith('/api/compute/health') ? 1 : 0));
    const next = () => timed.waitForResponse((response) => response.url().endsWith('/api/compute/health')).then((response) => response.finished());
    const sight = (hidden) => timed.evaluate((now) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => now });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await timed.clock.install();
    await timed.goto(`${server.url}/servers`);
    await timed.getByTestId('server').waitFor();
    const [before] = [asked, await Promise.all([next(), timed.clock.runFor(10_000)])];
    assert.equal(asked, before + 1);
    await timed.getByTestId('server').waitFor();
    await sight(true);
    await timed.clock.runFor(120_000);
    assert.equal(asked, before + 1);
    await Promise.all([next(), sight(false)]);
    await timed.close();
  });

  it('fits a phone', async () => {
    const hand = await startBrowser(PHONE);
    try {
      await signIn(hand.context, server.url);
      const small = await hand.context.newPage();
      await small.goto(`${server.url}/servers`);
      await small.getByTestId('server').waitFor();
      await assertFits(small, 'the list of servers');
      await small.getByTestId('new-server').click();
      await assertFits(small, 'the form of a server');
      await small.keyboard.press('Escape');
      await small.getByTestId('page-storage').click();
      await small.waitForURL(/\/storage$/);
    } finally {
      await hand.close();
    }
  });

  it('hides them from everybody else', async () => {
    const other = { email: 'bob@example.org', password: 'correct horse battery' };
    const { status, body } = await server.ask('POST', '/api/auth/register', other);
    assert.equal(status, 201, JSON.stringify(body));
    const stranger = await startBrowser();
    try {
      const answer = await stranger.context.request.post(`${server.url}/api/auth/login`, { data: other });
      assert.equal(answer.status(), 200);
      const theirs = await stranger.context.newPage();
      await theirs.goto(`${server.url}/servers`);
      await theirs.getByTestId('servers-refused').waitFor();
      assert.equal(await theirs.getByTestId('page-servers').count(), 0);
      assert.equal(await theirs.getByTestId('server').count(), 0);
    } finally {
      await stranger.close();
    }
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
