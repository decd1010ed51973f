// Rexec's own container images, built with the binary under test on rexec/stand-in (scripts/stand-in), and servers that run in them.
// Everything has a label by which `close` takes it away, whatever happened; `scripts/leftovers.sh` does where that was killed.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Account } from './account.mjs';
import { attached, command, signIn, startBrowser } from './browser.mjs';
import { sweep } from './engine.mjs';
import { eventually, rexecBinary } from './environment.mjs';

const run = promisify(execFile);

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const STAND_IN = 'rexec/stand-in';
/** Static: with it alone there is no glibc, as on Alpine. */
const BUSYBOX = '/bin/busybox';
const CALL_MS_MAX = 60_000;
const BUILD_MS_MAX = 180_000;

/** The docker command, with a time-out; answers what it printed. `input` is a file for its standard input. */
export async function docker(args, { timeout = CALL_MS_MAX, input } = {}) {
  const done = run('docker', args, { timeout, killSignal: 'SIGKILL', maxBuffer: 16 << 20, env: { ...process.env, DOCKER_BUILDKIT: '0' } });
  if (input) {
    spawn('cat', [input], { stdio: ['ignore', 'pipe', 'inherit'] }).stdout.pipe(done.child.stdin).on('error', () => {});
  } else {
    done.child.stdin.end();
  }
  try {
    const { stdout, stderr } = await done;
    return args[0] === 'logs' ? stdout + stderr : stdout.trim();
  } catch (error) {
    throw new Error(`docker ${args.join(' ')}: ${error.stderr || error.message}\n${error.stdout ?? ''}`);
  }
}

/** The engine's usual network, and the address of this machine there: a daemon that has just made it names no gateway. */
export async function usualNetwork() {
  const [{ Gateway: gateway, Subnet: network }] = JSON.parse(await docker(['network', 'inspect', '--format', '{{json .IPAM.Config}}', 'bridge']));
  return { gateway: gateway || network.replace(/\d+\/\d+$/, '1'), network };
}

/** What a nested engine needs, where `--privileged` would give more than the machine that tests has to give. */
export const NESTED = [
  '--cap-drop', 'ALL',
  ...`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW SYS_CHROOT SYS_PTRACE
    SYS_ADMIN SYS_NICE MKNOD AUDIT_WRITE SETFCAP`.split(/\s+/).flatMap((name) => ['--cap-add', name]),
  '--security-opt', 'seccomp=unconfined', '--security-opt', 'systempaths=unconfined', '--security-opt', 'apparmor=unconfined',
];
/** ... and a rootless one besides. */
export const ROOTLESS = [...NESTED, '--device', '/dev/net/tun', '--device', '/dev/fuse'];

/** A root file system of one static program, as a tar file in the directory. */
export async function busyboxTar(directory) {
  const root = join(directory, 'busybox');
  await mkdir(join(root, 'bin'), { recursive: true });
  await mkdir(join(root, 'etc'));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  await cp(BUSYBOX, join(root, 'bin/busybox'));
  for (const name of ['sh', 'cat', 'chmod', 'chown', 'echo', 'id', 'mkdir']) {
    await symlink('busybox', join(root, 'bin', name));
  }
  const tar = join(directory, 'busybox.tar');
  await run('tar', ['-C', root, '-cf', tar, '.'], { timeout: CALL_MS_MAX });
  return tar;
}

/** What a test makes at the engine, and a directory; `close` takes all of it away. */
export class Bench {
  label = `rexec.test.server=${randomUUID()}`;
  #context;

  static async open() {
    const bench = new Bench();
    bench.directory = await mkdtemp(join(tmpdir(), 'rexec-e2e-'));
    return bench;
  }

  get labels() {
    return ['--label', 'rexec.test=e2e', '--label', this.label];
  }

  /** The files that `make docker-build` sends to the engine. */
  async #files() {
    if (this.#context) return this.#context;
    const context = join(this.directory, 'context');
    await mkdir(join(context, 'bin'), { recursive: true });
    await run('strip', ['--strip-debug', '-o', join(context, 'bin/rexec'), rexecBinary()], { timeout: CALL_MS_MAX });
    for (const name of ['docker/build', 'docker/start-standalone.sh', 'Dockerfile', 'Dockerfile.standalone']) {
      await cp(join(ROOT, name), join(context, name));
    }
    this.#context = context;
    return context;
  }

  /** Builds one of the repository's Dockerfiles and answers the image's id. */
  async build(dockerfile, base = STAND_IN) {
    const from = ['BASE', 'BUILD', 'NODE'].flatMap((name) => ['--build-arg', `${name}_IMAGE=${name === 'BASE' ? base : STAND_IN}`]);
    const context = await this.#files();
    const args = ['build', '--quiet', '--force-rm', '--file', join(context, dockerfile), ...from, ...this.labels];
    // An engine without BuildKit keeps what the first stage made: it has a label, too, so that it goes with the rest.
    await docker([...args, '--target', 'build', context], { timeout: BUILD_MS_MAX });
    return docker([...args, context], { timeout: BUILD_MS_MAX });
  }

  async close() {
    await sweep(this.label);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** A server in a container, at a port of the loopback that the engine chooses. */
export class ContainerServer extends Account {
  constructor(bench) {
    super();
    this.bench = bench;
  }

  async start(image, { options = [], environment = {} }) {
    const variables = {
      // The binary under test is one of development: its page lies beside it, not inside.
      WEB_DIR: '/web',
      REXEC_ENGINE_LABELS: `rexec.test=e2e,${this.bench.label}`,
      REXEC_REQUESTS_PER_SECOND: '0',
      REXEC_SIGN_INS_PER_MINUTE: '0',
      // There is no registry of the templates' images here.
      REXEC_PREPULL: 'false',
      ...environment,
    };
    const page = process.env.WEB_DIR || join(ROOT, 'web/dist');
    this.id = await docker([
      'run', '--detach', ...this.bench.labels, '--publish', '127.0.0.1::8080', '--health-interval', '1s',
      '--volume', `${page}:/web:ro`, ...Object.entries(variables).flatMap(([name, value]) => ['--env', `${name}=${value}`]), ...options, image,
    ]);
    await this.ready();
  }

  get log() {
    return docker(['logs', this.id]);
  }

  get state() {
    return docker(['inspect', '--format', '{{json .State}}', this.id]).then(JSON.parse);
  }

  /** Waits until it serves and its engine is there, and learns where: a container that starts anew has another port. */
  async ready() {
    try {
      await eventually('the server is ready', async () => {
        const { Running, ExitCode } = await this.state;
        assert.ok(Running, `the container ended with exit code ${ExitCode}`);
        this.url = `http://${await docker(['port', this.id, '8080/tcp'])}`;
        return (await this.ask('GET', '/ready')).status === 200;
      }, 60_000);
    } catch (error) {
      throw new Error(`${error.message}\n${(await this.log).slice(-8000)}`, { cause: error.cause });
    }
  }

  exec(...command) {
    return docker(['exec', this.id, ...command]);
  }

  /** Ends it as an operator does, and answers its exit code. */
  async stop() {
    await docker(['stop', '--time', '40', this.id]);
    return (await this.state).ExitCode;
  }

  /** Types into a terminal of a workspace in a browser, and waits for the answer. */
  async type(workspace, line, expected) {
    const browser = await startBrowser();
    try {
      await signIn(browser.context, this.url);
      const page = await browser.context.newPage();
      await page.goto(`${this.url}/w/${workspace}`);
      await attached(page);
      await command(page, line, expected);
    } finally {
      await browser.close();
    }
  }
}
