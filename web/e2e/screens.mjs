// Makes a picture of every screen of the page, at the size of a desk and of a hand, from the real product; to be looked at.
// Usage: REXEC_BIN=... REXEC_CHROMIUM=... node web/e2e/screens.mjs FOLDER [desk|hand]
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attached, command, DESKTOP, enter, PHONE, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Registry } from './registry.mjs';
import { Server } from './server.mjs';

const [folder, only] = process.argv.slice(2);
if (!folder) throw new Error('Name the folder for the pictures.');
const SIZES = [['desk', DESKTOP], ['hand', PHONE]].filter(([name]) => !only || only === name);

const SETUP = (name, steps) =>
  `name = "${name}"\ndescription = "A template of the tests."\nicon = "terminal"\nimage = "rexec/base:latest"\nsize_mb = 100\n` +
  steps.map(([title, run]) => `\n[[setup]]\nname = "${title}"\nrun = ${JSON.stringify(run)}\ntimeout_s = 600\n`).join('');
const RUNS = SETUP('Slow', [['Virtual environment', 'true'], ['Fetch the packages', 'echo Collecting numpy; sleep 900'], ['Compile', 'true']]);
const FAILS = SETUP('Broken', [['Virtual environment', 'true'], ['Fetch the packages', 'echo "Collecting numpi"; echo "ERROR: No matching distribution found for numpi"; exit 1']]);

const FILES = {
  'site/index.html': '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Atlas</title><h1>Atlas</h1><p>served from the workspace</p>\n',
  'atlas/README.md': '# Atlas\n\nMaps for *everyone*.\n',
  'atlas/server.py': 'from http.server import ThreadingHTTPServer\n\n\nclass Atlas:\n    """Answers with a map."""\n\n    def __init__(self, port: int) -> None:\n        self.port = port\n\n    def serve(self) -> None:\n        print(f"listening on {self.port}")\n',
  'atlas/package.json': '{\n  "name": "atlas",\n  "private": true\n}\n',
  'atlas/data/cities.csv': 'name,people\nPraha,1357000\n',
  'atlas/notes.txt': 'A rather long line that goes on and on so that it has to be wrapped or scrolled somewhere in the middle of the editor.\n',
};

let page;
let size;

async function shoot(name) {
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: join(folder, `${size}-${name}.png`), animations: 'disabled' });
}

/** Goes to an address, waits for what it must show, and takes its picture. */
async function see(name, path, shown) {
  await page.goto(server.url.replace('127.0.0.1', 'localhost') + path);
  if (shown) await (typeof shown === 'string' ? page.getByTestId(shown).first().waitFor() : shown());
  await shoot(name);
}

async function make(name, more) {
  return (await server.api('POST', '/api/workspaces', { name, wait_ms: 0, ...more })).id;
}

async function fill() {
  const atlas = (await server.workspace('atlas-api')).id;
  for (const [path, text] of Object.entries(FILES)) await server.writeFile(atlas, `/home/user/${path}`, text);
  const serve = 'cd /home/user/site && (setsid python3 -m http.server 8000 >/dev/null 2>&1 &) && (setsid python3 -m http.server 5173 >/dev/null 2>&1 &)';
  await server.api('POST', `/api/workspaces/${atlas}/exec`, { command: ['sh', '-c', serve] });
  await eventually('two ports', async () => (await server.api('GET', `/api/workspaces/${atlas}/ports`)).items.length === 2);
  const ends = new Date(Date.now() + 3_600_000).toISOString();
  await server.api('PUT', `/api/workspaces/${atlas}/ports/5173`, { visibility: 'public', expires_at: ends, label: 'The map, for the review' });
  await server.api('POST', `/api/workspaces/${atlas}/snapshots`, { name: 'before the migration' });
  const stopped = (await server.workspace('nightly-build')).id;
  await server.api('POST', `/api/workspaces/${stopped}/stop`);
  const paused = (await server.workspace('sandbox')).id;
  await server.api('POST', `/api/workspaces/${paused}/pause`);
  const broken = await make('from-nowhere', { image: `${registry.host}/none:1` });
  await eventually('it fails', async () => (await server.api('GET', `/api/workspaces/${broken}`)).status === 'error');
  const gone = (await server.workspace('old-experiment')).id;
  await server.api('DELETE', `/api/workspaces/${gone}`);
  const slow = await make('slow', { template: 'slow' });
  const failed = await make('broken', { template: 'broken' });
  await eventually('a set-up fails', async () => (await server.api('GET', `/api/workspaces/${failed}/setup`)).state === 'failed');
  await eventually('a set-up runs', async () => (await server.api('GET', `/api/workspaces/${slow}/setup`)).steps[1].state === 'running');
  registry.hold();
  const pulling = await make('fetching', { image });
  await server.api('POST', '/api/registries', { server: 'ghcr.io', username: 'ada', password: 'a secret' });
  return { atlas, stopped, paused, broken, slow, failed, pulling };
}

async function strangers(options) {
  const browser = await startBrowser(options);
  page = await browser.context.newPage();
  await see('01-first-account', '/', 'register-form');
  await browser.close();
}

async function round(options, made) {
  const browser = await startBrowser(options);
  page = await browser.context.newPage();
  const local = server.url.replace('127.0.0.1', 'localhost');
  await see('02-sign-in', '/', 'login-form');
  await page.getByTestId('email').fill('ada@example.org');
  await page.getByTestId('password').fill('not the one');
  await page.getByTestId('submit').click();
  await page.getByTestId('form-error').getByText(/\w/).waitFor();
  await shoot('03-sign-in-refused');
  await signIn(browser.context, local);
  await see('04-dashboard', '/', () => page.getByTestId('workspace-card').nth(6).waitFor());
  await page.screenshot({ path: join(folder, `${size}-05-dashboard-whole.png`), animations: 'disabled', fullPage: true });
  await page.getByTestId('open-palette').click();
  await page.getByTestId('palette-option').first().waitFor();
  await shoot('06-palette');
  await page.getByTestId('palette-input').fill('zzzz');
  await shoot('07-palette-nothing');
  await page.keyboard.press('Escape');
  await page.getByTestId('new-workspace').click();
  await page.locator('[data-testid=template][data-id=python]').waitFor();
  await shoot('08-new');
  await page.locator('[data-testid=template][data-id=image]').click();
  await page.getByTestId('workspace-git').fill('file:///etc');
  await page.getByTestId('create-workspace').click();
  await page.locator('[data-testid=workspace-git][aria-invalid=true]').waitFor();
  await shoot('09-new-refused');
  await page.keyboard.press('Escape');
  if (size === 'desk') await page.locator(`[data-id="${made.atlas}"]`).getByTestId('action-delete').click();
  if (size === 'desk') await shoot('10-confirm');
  await see('11-terminal', `/w/${made.atlas}`, () => attached(page));
  await waitForText(page, '$');
  await command(page, 'ls --color=always -la; echo "hello $((6 * 7)) 世界 🚀"', 'hello 42');
  await shoot('12-terminal-used');
  await page.getByTestId('new-terminal').click();
  await page.getByTestId('terminal-tab').nth(1).waitFor();
  await waitForText(page, '$');
  await enter(page, 'exit');
  await page.locator('.pane.active').getByTestId('exited').waitFor();
  await shoot('13-terminal-ended');
  await see('14-setup-running', `/w/${made.slow}`, 'setup');
  await attached(page);
  await page.getByTestId('new-terminal').click();
  await waitForText(page, '$');
  await shoot('14-setup-running');
  await page.getByTestId('setup-watch').click();
  await waitForText(page, 'numpy');
  await shoot('15-setup-watched');
  await see('16-setup-failed', `/w/${made.failed}`, 'setup-output');
  await attached(page);
  await shoot('16-setup-failed');
  await see('17-pulling', `/w/${made.pulling}`, 'pull');
  await see('18-stopped', `/w/${made.stopped}`, 'standing-action');
  await see('19-paused', `/w/${made.paused}`, 'standing-action');
  await see('20-error', `/w/${made.broken}`, 'standing-action');
  await see('21-none', '/w/ws_00000000000000000000000000', 'no-workspace');
  await see('22-files', `/w/${made.atlas}/files`, 'file-row');
  await see('23-editor', `/w/${made.atlas}/files?path=/home/user/atlas&open=server.py`, 'editor');
  await see('24-files-stopped', `/w/${made.stopped}/files`, 'standing-action');
  await see('25-ports', `/w/${made.atlas}/ports`, () => page.getByTestId('port').nth(1).waitFor());
  await page.locator('[data-port="5173"]').getByTestId('port-visibility').click();
  await shoot('26-port-public');
  await page.keyboard.press('Escape');
  const [preview] = await Promise.all([browser.context.waitForEvent('page'), page.locator('[data-port="8000"]').getByTestId('open-port').click()]);
  await preview.getByRole('heading', { name: 'Atlas' }).waitFor();
  await preview.screenshot({ path: join(folder, `${size}-27-preview.png`) });
  await preview.goto(preview.url().replace('8000-', '8001-'));
  await preview.getByText('8001').first().waitFor();
  await preview.waitForURL(/8001-/);
  await preview.screenshot({ path: join(folder, `${size}-28-preview-nothing.png`) });
  await preview.close();
  await see('29-ports-none', `/w/${made.failed}/ports`, 'no-ports');
  await see('30-ports-stopped', `/w/${made.stopped}/ports`, 'ports-start');
  await see('31-open-preview-stopped', `/open-preview?workspace=${made.stopped}&port=8000&start=true`, 'open-preview');
  await see('32-snapshots', `/w/${made.atlas}/snapshots`, 'snapshot');
  await page.getByTestId('clone-snapshot').click();
  await page.getByTestId('workspace-name').waitFor();
  await shoot('33-clone');
  await see('34-snapshots-none', `/w/${made.failed}/snapshots`, 'no-snapshots');
  await see('35-usage', `/w/${made.atlas}/stats`, () => page.locator('[data-testid=stats][data-live=true]').waitFor());
  await page.locator('[data-figure=cpu] [data-testid=chart-now]').getByText('core').waitFor();
  await shoot('35-usage');
  await see('36-usage-stopped', `/w/${made.stopped}/stats`);
  await see('55-network', `/w/${made.atlas}/egress`, 'log-empty');
  await see('37-settings', `/w/${made.atlas}/settings`, 'settings');
  await page.getByTestId('size-memory').fill('8');
  await page.getByTestId('size-apply').click();
  await page.getByTestId('size-fault').waitFor();
  await shoot('38-settings-refused');
  await page.locator('.sheet').evaluate((sheet) => sheet.scrollTo(0, 9_999));
  await shoot('39-settings-end');
  await see('40-storage', '/storage', 'kept-home');
  await page.screenshot({ path: join(folder, `${size}-41-storage-whole.png`), animations: 'disabled', fullPage: true });
  await see('42-account', '/account', 'registry');
  await page.screenshot({ path: join(folder, `${size}-43-account-whole.png`), animations: 'disabled', fullPage: true });
  await page.getByTestId('new-token').click();
  await page.getByTestId('token-name').fill('nightly build');
  await shoot('45-token-new');
  await page.getByTestId('create-token').click();
  await page.getByTestId('made-token').waitFor();
  await shoot('46-token-made');
  await page.getByTestId('token-done').click();
  await page.getByTestId('ssh-key-line').fill('-----BEGIN OPENSSH PRIVATE KEY-----');
  await page.getByTestId('add-ssh-key').click();
  await page.getByTestId('ssh-key-fault').waitFor();
  await page.getByTestId('ssh-key-fault').scrollIntoViewIfNeeded();
  await shoot('47-ssh-key-refused');
  await see('48-connect', `/w/${made.atlas}/snapshots`, 'connect');
  await page.getByTestId('connect').click();
  await page.getByTestId('sync-ssh-keys').waitFor();
  await shoot('48-connect');
  await see('42-account', '/account', 'registry');
  await page.getByTestId('toggle-activity').click();
  await page.getByTestId('activity-entry').first().waitFor();
  await shoot('44-activity');
  await see('52-servers', '/servers', 'server');
  await page.getByTestId('server-more').click();
  await shoot('53-server-details');
  await page.getByTestId('new-server').click();
  await page.getByTestId('server-name').fill('ws-1');
  await page.getByTestId('server-hostname').fill('no-such-host.invalid');
  for (const part of ['ca', 'cert', 'key']) await page.getByTestId(`server-tls_${part}_path`).fill(`/nowhere/${part}.pem`);
  await page.getByTestId('server-add').click();
  await page.locator('[data-testid=server-tls_ca_path][aria-invalid=true]').waitFor();
  await shoot('54-server-refused');
  await see('49-device', '/device', 'device-typed');
  const { body } = await server.ask('POST', '/api/auth/device', { client_name: 'rexec on laptop' });
  await see('50-device-decision', `/device?code=${body.user_code}`, 'device-approve');
  await page.getByTestId('device-approve').click();
  await page.getByTestId('device-approved').waitFor();
  await shoot('51-device-approved');
  await browser.close();
}

await mkdir(folder, { recursive: true });
const templates = await mkdtemp(join(tmpdir(), 'rexec-templates-'));
await writeFile(join(templates, 'slow.toml'), RUNS);
await writeFile(join(templates, 'broken.toml'), FAILS);
let registry, server, image;
try {
  registry = await Registry.start();
  image = await registry.offer('tools/simulator', 5, 3 * 1024 * 1024);
  server = await Server.start({ environment: { REXEC_TEMPLATES_DIR: templates, LLM_BASE_URL: 'http://127.0.0.1:1/v1', REXEC_MODELS: 'gpt-5*', REXEC_MODELS_TOKENS_PER_DAY: '1000000', GITHUB_TOKEN: 'ghp_0123456789abcdefghijABCDEFGHIJ012345' } });
  for (const [name, options] of SIZES) {
    size = name;
    await strangers(options);
  }
  await server.register();
  const fresh = await startBrowser();
  await signIn(fresh.context, server.url);
  page = await fresh.context.newPage();
  await page.goto(server.url);
  await page.getByTestId('new-workspace').waitFor();
  await shoot('04-dashboard-empty');
  await fresh.close();
  const made = await fill();
  for (const [name, options] of SIZES) {
    size = name;
    await round(options, made);
  }
} finally {
  registry?.release();
  await server?.close();
  await registry?.close();
  await rm(templates, { recursive: true, force: true });
}
