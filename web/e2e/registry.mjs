// A registry of a test's own (Debian's `docker-registry`) on loopback, which engines trust without TLS, behind a gate
// that can stop large layers half-way, so that a test sees a fetch under way however fast the machine is.
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

const STEP_MS_MAX = 60_000;
/** Smaller blobs pass the gate unhindered. */
const HELD_BYTES_MIN = 256 * 1024;
/** `{}`: an engine wants to be told of credentials even where none are asked for. */
const NOBODY = 'e30=';
const TOOLS = ['sh', 'cat', 'echo', 'id', 'ls', 'sleep', 'test', 'touch', 'true', 'false', 'mkdir', 'mv', 'rm'];

export class Registry {
  #process;
  #directory;
  #port;
  #gate = createServer((asked, answer) => this.#pass(asked, answer));
  #opened = Promise.resolve();
  #open = () => undefined;
  #given = [];

  static async start() {
    const registry = new Registry();
    try {
      await registry.#boot();
      return registry;
    } catch (error) {
      await registry.close();
      throw error;
    }
  }

  /** As it stands before the names of images. */
  get host() {
    return `127.0.0.1:${this.#gate.address().port}`;
  }

  async #boot() {
    this.#directory = await mkdtemp(join(tmpdir(), 'rexec-registry-'));
    const config = join(this.#directory, 'config.yml');
    const lines = ['version: 0.1', 'log: {level: info}', `storage: {filesystem: {rootdirectory: ${this.#directory}/data}}`, 'http: {addr: "127.0.0.1:0"}'];
    await writeFile(config, lines.join('\n'));
    this.#process = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#port = await new Promise((resolve, reject) => {
      this.#process.once('error', () => reject(new Error("docker-registry is not installed (Debian's package of that name)")));
      this.#process.once('exit', () => reject(new Error('docker-registry ended before it listened')));
      createInterface({ input: this.#process.stderr }).on('line', (line) => {
        const address = /listening on 127\.0\.0\.1:(\d+)/.exec(line);
        if (address) resolve(Number(address[1]));
      });
    });
    this.#gate.listen(0, '127.0.0.1');
    await once(this.#gate, 'listening');
  }

  /** From now on large blobs stop half-way, until `release`. */
  hold() {
    this.#opened = new Promise((resolve) => (this.#open = resolve));
  }

  release() {
    this.#open();
  }

  /** Offers an image with a shell and as many further layers of so many bytes, which the engine does not have. Gives its reference. */
  async offer(name, layers, bytes) {
    const folder = join(this.#directory, 'image');
    await mkdir(folder);
    const files = [await shell(folder)];
    for (let n = 1; n <= layers; n += 1) files.push(await layer(folder, `part-${n}`, async (root) => writeFile(join(root, `part-${n}`), randomBytes(bytes))));
    const reference = `${this.host}/${name}:1`;
    await writeFile(join(folder, 'config.json'), JSON.stringify({
      architecture: { x64: 'amd64' }[process.arch] ?? process.arch,
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: await Promise.all(files.map(async (file) => `sha256:${createHash('sha256').update(await readFile(join(folder, file))).digest('hex')}`)) },
    }));
    await writeFile(join(folder, 'manifest.json'), JSON.stringify([{ Config: 'config.json', RepoTags: [reference], Layers: files }]));
    await run('tar', ['-cf', join(folder, 'image.tar'), '-C', folder, 'config.json', 'manifest.json', ...files], { timeout: STEP_MS_MAX });
    this.#given.push(reference);
    await engine('POST', '/images/load', await readFile(join(folder, 'image.tar')));
    await engine('POST', `/images/${this.host}/${name}/push?tag=1`);
    await engine('DELETE', `/images/${reference}`);
    await rm(folder, { recursive: true });
    return reference;
  }

  #pass(asked, answer) {
    const { method, url, headers } = asked;
    const onward = request({ host: '127.0.0.1', port: this.#port, method, path: url, headers }, async (given) => {
      answer.writeHead(given.statusCode, given.headers);
      const bytes = Number(given.headers['content-length']);
      if (method !== 'GET' || !url.includes('/blobs/') || bytes < HELD_BYTES_MIN) return given.pipe(answer);
      // An engine that gives up takes the connection with it.
      await pipeline(given, (source) => this.#slowly(source, bytes), answer).catch(() => undefined);
    });
    onward.on('error', () => answer.destroy());
    asked.pipe(onward);
  }

  async *#slowly(source, bytes) {
    let sent = 0;
    for await (const chunk of source) {
      if (sent > bytes / 2) await this.#opened;
      yield chunk;
      sent += chunk.length;
    }
  }

  /** Ends it, and takes away every image that it gave out; nothing may use them any more. */
  async close() {
    this.release();
    for (const reference of this.#given) await engine('DELETE', `/images/${reference}?force=true`).catch(() => undefined);
    this.#gate.closeAllConnections();
    this.#gate.close();
    if (this.#process?.exitCode === null && this.#process.pid !== undefined) {
      const gone = once(this.#process, 'exit');
      this.#process.kill();
      await gone;
    }
    if (this.#directory) await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Packs a layer of what `fill` puts into a folder; gives its file. */
async function layer(folder, name, fill) {
  const root = join(folder, name);
  await mkdir(root);
  await fill(root);
  await run('tar', ['-cf', join(folder, `${name}.tar`), '--owner=0', '--group=0', '-C', root, '.'], { timeout: STEP_MS_MAX });
  return `${name}.tar`;
}

/** The least that a workspace needs, and bytes that no other image has. */
function shell(folder) {
  return layer(folder, 'shell', async (root) => {
    await mkdir(join(root, 'bin'));
    await mkdir(join(root, 'etc'));
    await copyFile('/bin/busybox', join(root, 'bin/busybox'));
    for (const tool of TOOLS) await symlink('busybox', join(root, 'bin', tool));
    await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    await writeFile(join(root, 'unique'), randomBytes(16));
  });
}

/** Asks the engine itself for what a workspace's API has no word for. */
async function engine(method, path, body) {
  const socketPath = (process.env.DOCKER_HOST || 'unix:///var/run/docker.sock').replace('unix://', '');
  const headers = { host: 'engine', 'x-registry-auth': NOBODY, 'content-length': body?.length ?? 0 };
  const asked = request({ socketPath, method, path: `/v1.41${path}`, headers, timeout: STEP_MS_MAX });
  asked.on('timeout', () => asked.destroy(new Error('the engine took too long')));
  asked.end(body);
  const [answer] = await once(asked, 'response');
  let text = '';
  for await (const chunk of answer) text += chunk;
  if (answer.statusCode >= 300 || text.includes('errorDetail')) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
}
