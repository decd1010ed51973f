// `rexec login` and a browser: what the command shows is what the page asks about, and what is decided there ends it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { assertFits, PHONE, startBrowser } from './browser.mjs';
import { eventually, rexecBinary } from './environment.mjs';
import { EMAIL, PASSWORD, Server } from './server.mjs';

describe('a machine signs in', { timeout: 180_000 }, () => {
  let server, browser, page, home;
  const commands = [];

  before(async () => {
    server = await Server.start();
    await server.register();
    home = await mkdtemp(join(tmpdir(), 'rexec-home-'));
    // Where a desktop would open the address.
    await writeFile(join(home, 'xdg-open'), '#!/bin/sh\necho "$@" > "$HOME/opened"\nexit 3\n');
    await chmod(join(home, 'xdg-open'), 0o755);
    browser = await startBrowser();
    page = await browser.context.newPage();
  });
  after(async () => {
    for (const command of commands) command.kill();
    await browser?.close();
    await server?.close();
    if (home) await rm(home, { recursive: true, force: true });
  });

  /** The command, and what it has said. */
  function login(environment = {}) {
    const { REXEC_URL: _, REXEC_TOKEN: __, XDG_CONFIG_HOME: ___, SSH_CONNECTION: ____, SSH_TTY: _____, ...inherited } = process.env;
    const env = { ...inherited, HOME: home, PATH: `${home}${delimiter}${process.env.PATH}`, DISPLAY: '', WAYLAND_DISPLAY: '', BROWSER: '', ...environment };
    const command = spawn(rexecBinary(), ['login', server.url], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    commands.push(command);
    const said = { out: '', err: '' };
    command.stdout.on('data', (piece) => (said.out += piece));
    command.stderr.on('data', (piece) => (said.err += piece));
    const ended = once(command, 'exit').then(([code]) => code);
    const address = () => eventually('an address', () => /http:\S+\/device\?code=\S+/.exec(said.err)?.[0]);
    return { said, ended, address };
  }

  it('asks who is not signed in to do so, comes back, and lets the machine in', async () => {
    const command = login({ DISPLAY: ':99' });
    const address = await command.address();
    const code = new URL(address).searchParams.get('code');
    assert.ok(command.said.err.includes(`this code: ${code}`), command.said.err);
    await eventually('the browser is asked for', async () => (await readFile(join(home, 'opened'), 'utf8')).trim() === address);
    await page.goto(address);
    await page.getByTestId('login-form').waitFor();
    await page.getByTestId('email').fill(EMAIL);
    await page.getByTestId('password').fill(PASSWORD);
    await page.getByTestId('submit').click();
    await page.getByTestId('device-code').getByText(code).waitFor();
    assert.match(await page.getByTestId('device-client').textContent(), /^rexec on ./);
    await page.getByText('Approve only what you began yourself').waitFor();
    await assertFits(page, 'the decision');
    await page.getByTestId('device-approve').click();
    await page.getByTestId('device-approved').waitFor();
    assert.equal(await command.ended, 0, command.said.err);
    assert.ok(command.said.out.includes(EMAIL), command.said.out);
    const kept = join(home, '.config/rexec/logins.json');
    assert.equal((await stat(kept)).mode & 0o777, 0o600);
    const { token } = JSON.parse(await readFile(kept, 'utf8')).servers[server.url];
    const me = await fetch(`${server.url}/api/me`, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(me.status, 200);
    await page.goto(`${server.url}/account`);
    await page.getByTestId('token').getByText('rexec on').waitFor();
  });

  it('turns a machine away, whose command says so', async () => {
    await rm(join(home, 'opened'));
    const command = login();
    await page.goto(await command.address());
    await page.getByTestId('device-deny').click();
    await page.getByTestId('device-denied').waitFor();
    assert.equal(await command.ended, 5, command.said.err);
    assert.match(command.said.err, /denied/);
    await assert.rejects(stat(join(home, 'opened')), 'no browser where there is no screen');
  });

  it('takes a code that is typed, on a phone too, and says what is wrong with another', async () => {
    const command = login();
    const code = new URL(await command.address()).searchParams.get('code');
    await page.setViewportSize(PHONE.viewport);
    await page.goto(`${server.url}/device`);
    await page.getByTestId('device-typed').fill('AAAA-AAAA');
    await page.getByTestId('device-look').click();
    await page.getByTestId('device-fault').getByText('8 letters').waitFor();
    await page.getByTestId('device-typed').fill('BCDF-GHJK');
    await page.getByTestId('device-look').click();
    await page.getByTestId('device-fault').getByText('Nothing waits').waitFor();
    await page.getByTestId('device-typed').fill(code.toLowerCase().replace('-', ''));
    await page.getByTestId('device-look').click();
    await page.getByTestId('device-code').getByText(code).waitFor();
    await assertFits(page, 'the decision on a phone');
    await page.getByTestId('device-approve').click();
    await page.getByTestId('device-approved').waitFor();
    assert.equal(await command.ended, 0, command.said.err);
    // It was decided: nothing is left to decide again.
    await page.goto(`${server.url}/device?code=${code}`);
    await page.getByTestId('device-fault').getByText('Nothing waits').waitFor();
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
