// What programs come in with: API tokens and SSH keys, made, used and taken back by the page.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { signIn, startBrowser } from './browser.mjs';
import { Server } from './server.mjs';

/** Ed25519 keys of which nobody has the private half. */
const key = (byte) => {
  const field = (bytes) => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes]);
  const blob = Buffer.concat([field(Buffer.from('ssh-ed25519')), field(Buffer.alloc(32, byte))]);
  return `ssh-ed25519 ${blob.toString('base64')}`;
};

describe('tokens and keys', { timeout: 120_000 }, () => {
  let server, browser, page, github;

  before(async () => {
    github = createServer((request, answer) => {
      answer.statusCode = request.url === '/octocat.keys' ? 200 : 404;
      answer.end(answer.statusCode === 200 ? `${key(3)}\n${key(4)}\n` : 'Not Found');
    });
    await new Promise((resolve) => github.listen(0, '127.0.0.1', resolve));
    server = await Server.start({ environment: { REXEC_GITHUB_URL: `http://127.0.0.1:${github.address().port}` } });
    await server.register();
    browser = await startBrowser();
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(`${server.url}/account`);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    github?.close();
  });

  const ask = (token, path) => fetch(`${server.url}${path}`, { headers: { authorization: `Bearer ${token}` } });

  it('makes a token, shows it once, and it does what it may', async () => {
    await page.getByTestId('new-token').click();
    await page.getByTestId('token-name').fill('ci');
    await page.getByTestId('scope-exec').uncheck({ force: true });
    await page.getByTestId('token-ends').selectOption({ label: 'in 30 days' });
    await page.getByTestId('create-token').click();
    const token = await page.getByTestId('made-token').textContent();
    assert.match(token, /^rexec_[0-9A-Za-z]{49}$/);
    assert.equal((await ask(token, '/api/workspaces')).status, 200);
    assert.equal((await ask(token, '/api/tokens')).status, 403);
    await page.getByTestId('token-done').click();
    const entry = page.locator('[data-testid=token][data-name=ci]');
    await entry.getByText('Manage workspaces, Terminals, Files').waitFor();
    await entry.getByText(/ends in 29d 23h|ends in 30d/).waitFor();
    await page.reload();
    await entry.getByText(/^used .* ago/).waitFor();
    assert.ok(!(await page.content()).includes(token));
    await entry.getByTestId('revoke-token').click();
    await page.getByTestId('confirm').click();
    await entry.waitFor({ state: 'detached' });
    assert.equal((await ask(token, '/api/workspaces')).status, 401);
  });

  it('refuses a private key with the reason, takes a public one, and deletes it', async () => {
    await page.getByTestId('ssh-key-line').fill('-----BEGIN OPENSSH PRIVATE KEY-----\nabc');
    await page.getByTestId('add-ssh-key').click();
    await page.getByTestId('ssh-key-fault').getByText('private key').waitFor();
    await page.getByTestId('ssh-key-line').fill(`${key(1)} ada@laptop`);
    await page.getByTestId('add-ssh-key').click();
    const entry = page.locator('[data-testid=ssh-key][data-name="ada@laptop"]');
    await entry.getByText('SHA256:').waitFor();
    await entry.getByTestId('delete-ssh-key').click();
    await page.getByTestId('confirm').click();
    await entry.waitFor({ state: 'detached' });
  });

  it('imports the keys of a GitHub user', async () => {
    await page.getByTestId('github-user').fill('nobody-there');
    await page.getByTestId('import-ssh-keys').click();
    await page.getByTestId('ssh-key-fault').getByText('nobody-there').waitFor();
    await page.getByTestId('github-user').fill('octocat');
    await page.getByTestId('import-ssh-keys').click();
    await page.locator('[data-testid=ssh-key][data-name="octocat at GitHub"]').nth(1).waitFor();
  });

  it('tells how to connect to a workspace, and writes the keys into it', async () => {
    const { id } = await server.workspace('gate');
    await page.goto(`${server.url}/w/${id}/settings`);
    await page.getByTestId('connect').click();
    await page.getByTestId('connect-off').waitFor();
    await page.getByTestId('sync-ssh-keys').click();
    await page.getByText('2 keys written').waitFor();
    const command = ['sh', '-c', 'grep -c "octocat at GitHub" ~/.ssh/authorized_keys'];
    assert.equal((await server.api('POST', `/api/workspaces/${id}/exec`, { command })).stdout, '2\n');
    await page.keyboard.press('Escape');
    // As it will be where a gateway runs.
    const target = {
      host: 'rexec.example.org', port: 2222, user: 'gate', alias: 'rexec-gate',
      ssh: 'ssh -p 2222 gate@rexec.example.org', scp: 'scp -P 2222 file.txt gate@rexec.example.org:', sftp: 'sftp -P 2222 gate@rexec.example.org',
      rsync: "rsync -av -e 'ssh -p 2222' ./ gate@rexec.example.org:work/", vscode: 'vscode://vscode-remote/ssh-remote+gate@rexec.example.org:2222/home/user',
      config: 'Host rexec-gate\n    HostName rexec.example.org\n    Port 2222\n    User gate\n',
      host_keys: [{ kind: 'ssh-ed25519', fingerprint: 'SHA256:406rOXwi5dujtq+7oOuqkT4u2q71K6DMlWSFTb03d1E', known_hosts: 'x' }],
    };
    await page.route('**/api/ssh/connect/*', (route) => route.fulfill({ json: { workspace_id: id, enabled: true, reason: null, keys: 2, target } }));
    await page.getByTestId('connect').click();
    assert.equal(await page.getByTestId('connect-ssh').textContent(), target.ssh);
    assert.equal(await page.getByTestId('connect-vscode').getAttribute('href'), target.vscode);
    await page.getByText('SHA256:406rOXwi').waitFor();
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
