// Files by hand: every way in, out and about that the page has.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { DESKTOP, signIn, startBrowser } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

const HOME = '/home/user';

describe('the files of a workspace', { timeout: 180_000 }, () => {
  let server, browser, page, id, folder;

  const row = (name) => page.locator(`[data-testid=file-row][data-name="${name}"]`);
  const at = (path, open) => `${server.url}/w/${id}/files?${new URLSearchParams({ path, ...(open ? { open } : {}) })}`;
  const run = async (script) => {
    const { exit_code, stderr, stdout } = await server.api('POST', `/api/workspaces/${id}/exec`, { command: ['bash', '-c', script] });
    assert.equal(exit_code, 0, stderr);
    return stdout;
  };
  const menu = async (name, item) => {
    await row(name).getByTestId('file-menu').click();
    await page.getByTestId(`menu-${item}`).click();
  };

  before(async () => {
    server = await Server.start();
    await server.register();
    ({ id } = await server.workspace('files'));
    folder = await mkdtemp(join(tmpdir(), 'rexec-files-'));
    browser = await startBrowser({ ...DESKTOP, acceptDownloads: true });
    await signIn(browser.context, server.url);
    page = await browser.context.newPage();
    await page.goto(`${server.url}/w/${id}`);
    await page.getByTestId('view-files').click();
    await page.locator('[data-testid=folder-live][data-live=true]').waitFor();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('shows what a program makes, as it makes it', async () => {
    await run('mkdir docs && echo hello > docs/one.txt && echo "plain text" > note.txt');
    await row('docs').waitFor();
    await row('note.txt').waitFor();
    await run('rm note.txt');
    await row('note.txt').waitFor({ state: 'detached' });
  });

  it('goes into a folder and back, by mouse and by keys, and the address says where', async () => {
    await row('docs').getByTestId('file-open').click();
    await row('one.txt').waitFor();
    assert.equal(new URL(page.url()).searchParams.get('path'), `${HOME}/docs`);
    await page.reload();
    await row('one.txt').getByTestId('file-open').focus();
    await page.keyboard.press('Backspace');
    await row('docs').getByTestId('file-open').focus();
    await page.keyboard.press('Enter');
    await row('one.txt').waitFor();
    await page.goBack();
    await row('docs').waitFor();
  });

  it('makes a file, edits it and saves it', async () => {
    await page.getByTestId('new-entry').click();
    await page.getByTestId('menu-new-file').click();
    await page.getByTestId('name-input').fill('made/by hand & more.py');
    await page.getByTestId('name-submit').click();
    await page.getByTestId('name-input').waitFor({ state: 'detached' });
    await row('made').getByTestId('file-open').click();
    await row('by hand & more.py').getByTestId('file-open').click();
    await page.locator('.cm-content').click();
    await page.keyboard.insertText('print("grüße 世界")\n');
    await page.locator('[data-testid=viewer][data-dirty=true]').waitFor();
    await page.keyboard.press('Control+S');
    await page.locator('[data-testid=viewer][data-dirty=false]').waitFor();
    assert.equal(await server.file(id, `${HOME}/made/by hand & more.py`), 'print("grüße 世界")\n');
  });

  it('keeps line endings and follows a clean file', async () => {
    await run(`printf 'a\\r\\nb\\r\\n' > windows.txt`);
    await page.goto(at(HOME, 'windows.txt'));
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+End');
    await page.keyboard.insertText('c');
    await page.getByTestId('save-file').click();
    await page.locator('[data-testid=viewer][data-dirty=false]').waitFor();
    assert.equal(await server.file(id, `${HOME}/windows.txt`), 'a\r\nb\r\nc');
    await page.locator('[data-testid=folder-live][data-live=true]').waitFor();
    await run('echo changed > windows.txt');
    await page.locator('.cm-content').getByText('changed').waitFor();
  });

  it('never writes over what someone else wrote without asking', async () => {
    await page.locator('.cm-content').click();
    await page.keyboard.insertText('mine ');
    await run('echo theirs > windows.txt');
    await page.getByTestId('conflict').waitFor();
    assert.equal(await server.file(id, `${HOME}/windows.txt`), 'theirs\n');
    await page.getByTestId('take-theirs').click();
    await page.locator('.cm-content').getByText('theirs').waitFor();
    await page.getByTestId('conflict').waitFor({ state: 'detached' });
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText('mine');
    await run('echo again > windows.txt');
    await page.getByTestId('conflict').waitFor();
    await page.getByTestId('keep-mine').click();
    await page.locator('[data-testid=viewer][data-dirty=false]').waitFor();
    assert.equal(await server.file(id, `${HOME}/windows.txt`), 'mine');
  });

  it('keeps what was typed while another view is in sight', async () => {
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText('a draft');
    await page.getByTestId('view-terminals').click();
    await page.goBack();
    await page.locator('.cm-content').getByText('a draft').waitFor();
    await page.locator('[data-testid=viewer][data-dirty=true]').waitFor();
    await page.getByTestId('save-file').click();
    await page.locator('[data-testid=viewer][data-dirty=false]').waitFor();
    await page.getByTestId('close-file').click();
    await page.getByTestId('viewer').waitFor({ state: 'detached' });
  });

  it('uploads files, small and in pieces, and a folder, and downloads them', async () => {
    const large = randomBytes(3_000_001);
    await writeFile(join(folder, 'large.bin'), large);
    await writeFile(join(folder, 'small name.txt'), 'small');
    await page.getByTestId('pick-files').setInputFiles([join(folder, 'large.bin'), join(folder, 'small name.txt')]);
    await row('large.bin').waitFor();
    await row('small name.txt').waitFor();
    await page.getByTestId('pick-folder').setInputFiles(folder);
    const base = folder.split('/').at(-1);
    await row(base).waitFor();
    await page.locator('[data-testid=uploads][data-busy=false]').waitFor();
    assert.equal(await page.locator('[data-testid=upload][data-phase=failed]').count(), 0);
    assert.equal(await run(`cat ${base}/'small name.txt'; cmp large.bin ${base}/large.bin && stat -c %s large.bin`), 'small3000001\n');
    const [download] = await Promise.all([page.waitForEvent('download'), menu('large.bin', 'download')]);
    assert.deepEqual(await readFile(await download.path()), large);
    const [archive] = await Promise.all([page.waitForEvent('download'), menu('docs', 'zip')]);
    assert.equal(archive.suggestedFilename(), 'docs.zip');
    assert.equal((await readFile(await archive.path())).subarray(0, 2).toString(), 'PK');
  });

  it('takes what is dropped', async () => {
    const dropped = await page.evaluateHandle(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(['from the desktop'], 'dropped.txt'));
      return transfer;
    });
    await page.getByTestId('files').dispatchEvent('drop', { dataTransfer: dropped });
    await row('dropped.txt').waitFor();
    assert.equal(await server.file(id, `${HOME}/dropped.txt`), 'from the desktop');
  });

  it('extracts an archive that lies there, and one from the desk', async () => {
    await run(`mkdir -p pack/deep && echo one > pack/one.txt && echo two > pack/deep/two.txt
      python3 -c "import shutil; shutil.make_archive('first', 'zip', 'pack')" && tar -czf second.tgz -C pack . && rm -r pack && echo none > broken.zip`);
    await row('first.zip').waitFor();
    await menu('first.zip', 'extract');
    await row('one.txt').waitFor();
    await page.getByTestId('extracting').waitFor({ state: 'detached' });
    assert.equal(await run('cat one.txt deep/two.txt && rm -r one.txt deep'), 'one\ntwo\n');
    await menu('second.tgz', 'extract-folder');
    await row('second').waitFor();
    await page.getByTestId('extracting').waitFor({ state: 'detached' });
    assert.equal(await run('cat second/one.txt second/deep/two.txt && rm -r second'), 'one\ntwo\n');
    await menu('broken.zip', 'extract');
    await page.getByTestId('toast-code').getByText('archive_invalid').waitFor();
    const desk = join(folder, 'second.tar.gz');
    await writeFile(desk, Buffer.from(await run('base64 second.tgz'), 'base64'));
    await page.getByTestId('pick-extract').setInputFiles(desk);
    await row('deep').waitFor();
    await page.getByTestId('extracting').waitFor({ state: 'detached' });
    assert.equal(await run('cat one.txt deep/two.txt && rm -r one.txt deep first.zip second.tgz broken.zip'), 'one\ntwo\n');
  });

  it('renames, moves and deletes, and says why not', async () => {
    await row('dropped.txt').getByTestId('file-open').focus();
    await page.keyboard.press('F2');
    await page.getByTestId('name-input').fill('large.bin');
    await page.getByTestId('name-submit').click();
    await page.getByTestId('name-fault').getByText('file_exists').waitFor();
    await page.getByTestId('name-input').fill('docs/moved.txt');
    await page.getByTestId('name-submit').click();
    await row('dropped.txt').waitFor({ state: 'detached' });
    assert.equal(await server.file(id, `${HOME}/docs/moved.txt`), 'from the desktop');
    await menu('docs', 'delete');
    await page.getByTestId('confirm').click();
    await row('docs').waitFor({ state: 'detached' });
    assert.equal(await run('test -e docs || echo gone'), 'gone\n');
  });

  it('shows an image, names that are not UTF-8, and folders that cannot be read', async () => {
    await server.writeFile(id, `${HOME}/dot.svg`, '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10" fill="red"/></svg>');
    await run(`printf x > $'bad\\xff' && printf y > $'bad\\xfe' && head -c 9 /dev/urandom > blob && printf '\\xff\\x00' >> blob`);
    await eventually('both names', async () => (await page.getByTestId('file-row').filter({ hasText: 'not UTF-8' }).count()) === 2);
    await page.goto(at(HOME, 'dot.svg'));
    const image = page.getByTestId('image');
    await eventually('the image', () => image.evaluate((element) => element.naturalWidth === 20));
    await page.goto(at(HOME, 'blob'));
    await page.getByTestId('no-preview').waitFor();
    await page.goto(at('/root'));
    await page.getByTestId('folder-fault').getByText('file_denied').waitFor();
    await page.goto(at('/no/such'));
    await page.getByTestId('folder-fault').getByText('file_not_found').waitFor();
  });

  it('had no fault on the page', () => assert.deepEqual(browser.faults, []));
});
