// A second `dockerd` on this machine, for one test: its own directories, bridge and socket, and no rules of its own. It takes root.
//
// Without `--iptables=false` its start would take the rules of the machine's first daemon away; without a bridge of its own,
// that one's bridge. What its test's server leaves there goes with it.
import { execFile, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './environment.mjs';

const run = promisify(execFile);
const START_MS_MAX = 60_000;
const CALL_MS_MAX = 20_000;

export class Dockerd {
  #directory;
  #bridge = `rxe${randomBytes(5).toString('hex')}`;
  #process;

  static async start() {
    const daemon = new Dockerd();
    daemon.#directory = await mkdtemp(join(tmpdir(), 'rexec-dockerd-'));
    try {
      await run('ip', ['link', 'add', daemon.#bridge, 'type', 'bridge']);
      await run('ip', ['addr', 'add', `10.218.${randomInt(256)}.1/24`, 'dev', daemon.#bridge]);
      await run('ip', ['link', 'set', daemon.#bridge, 'up']);
      await daemon.#run();
    } catch (error) {
      await daemon.close();
      throw error;
    }
    return daemon;
  }

  get socket() {
    return this.#path('sock');
  }

  #path(name) {
    return join(this.#directory, name);
  }

  async #run() {
    // That of the machine's first daemon may have containers outlive it.
    await writeFile(this.#path('daemon.json'), '{}');
    const log = openSync(this.#path('log'), 'w');
    const own = ['--data-root', 'data', '--exec-root', 'exec', '--pidfile', 'pid', '--config-file', 'daemon.json'];
    const named = own.map((word) => (word.startsWith('--') ? word : this.#path(word)));
    const apart = ['--bridge', this.#bridge, '--iptables=false', '--ip6tables=false', '--ip-masq=false'];
    this.#process = spawn('dockerd', [...named, '--host', `unix://${this.socket}`, ...apart], { stdio: ['ignore', log, log] });
    closeSync(log);
    const failed = once(this.#process, 'error').then(([error]) => Promise.reject(error));
    const answers = eventually('a second dockerd', () => this.#call('/_ping').then(() => true), START_MS_MAX);
    try {
      await Promise.race([answers, failed]);
    } catch (error) {
      throw new Error(`no second dockerd: ${await readFile(this.#path('log'), 'utf8')}`, { cause: error });
    }
  }

  #call(path) {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.socket, path, timeout: CALL_MS_MAX }, async (response) => {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        if (response.statusCode < 300) resolve(text);
        else reject(new Error(`${path}: ${response.statusCode} ${text}`));
      });
      asked.on('timeout', () => asked.destroy(new Error(`${path}: no answer`)));
      asked.on('error', reject);
      asked.end();
    });
  }

  /** Ends it as a machine does whose power fails; what it had stays. */
  async pause() {
    const child = this.#process;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    const shims = processes().filter(({ command }) => command.includes('shim') && command.includes(this.#path('exec')));
    const inside = processes().filter(({ parent }) => shims.some(({ pid }) => pid === parent));
    for (const { pid } of [...inside, ...shims]) end(pid);
    // Its containerd dies with it, a moment later; a daemon that finds it alive starts none.
    await eventually('what the daemon ran has ended', () => !processes().some(({ command }) => command.includes(this.#path('exec'))));
    // The number in it may be another process's by now.
    await rm(join(this.#path('exec'), 'containerd/containerd.pid'), { force: true });
  }

  /** Starts it again on what it had. */
  async resume() {
    await this.#run();
  }

  /** Ends it and removes what it had of this machine. */
  async close() {
    // The bridge of the workspaces' network there, as only the daemon knows it.
    const network = await this.#call('/networks/rexec').then(JSON.parse, () => undefined);
    const inner = network?.Options?.['com.docker.network.bridge.name'];
    await this.pause();
    const below = readFileSync('/proc/self/mounts', 'utf8').split('\n').map((line) => line.split(' ')[1] ?? '').filter((path) => path.startsWith(`${this.#directory}/`));
    for (const path of below.sort((a, b) => b.length - a.length)) await run('umount', ['--lazy', path]).catch(() => undefined);
    if (inner?.startsWith('rexec-')) await forget(inner);
    await run('ip', ['link', 'del', this.#bridge]).catch(() => undefined);
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Removes a bridge, and the rules that the server made for it; see crates/engine/src/firewall.rs. */
async function forget(bridge) {
  for (const tool of ['iptables', 'ip6tables']) {
    for (const [table, from, chain] of [['filter', 'INPUT', `RXI-${bridge}`], ['mangle', 'FORWARD', `RXF-${bridge}`]]) {
      for (const change of [['-D', from, '-i', bridge, '-j', chain], ['-F', chain], ['-X', chain]]) {
        await run(tool, ['-w', '10', '-t', table, ...change]).catch(() => undefined);
      }
    }
  }
  await run('ip', ['link', 'del', bridge]).catch(() => undefined);
}

/** Every process: its id, its parent's, and its command line. */
function processes() {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const parent = Number(readFileSync(`/proc/${name}/stat`, 'utf8').split(')').at(-1).trim().split(' ')[1]);
      return [{ pid: Number(name), parent, command: readFileSync(`/proc/${name}/cmdline`, 'utf8') }];
    } catch {
      return [];
    }
  });
}
