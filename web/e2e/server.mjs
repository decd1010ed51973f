// A Rexec server of a test's own: free port, fresh data directory, real engine. Whatever happens to it in
// the test, `close` leaves nothing behind: workspaces go through the API, then the process, then what the engine still
// has of it, then the data.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Account } from './account.mjs';
import { sweep } from './engine.mjs';
import { eventually, postgresDatabase, rexecBinary } from './environment.mjs';

const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 20_000;
/** Log lines kept for the report of a failure. */
const LOG_LINES_MAX = 60;

export { EMAIL, PASSWORD } from './account.mjs';

const open = new Set();
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    await Promise.allSettled([...open].map((server) => server.close()));
    process.exit(1);
  });
}

export class Server extends Account {
  #process;
  #log = [];
  #database;
  #directory;
  #environment = {};
  /** On everything that it makes at the engine. */
  #label = `rexec.test.server=${randomUUID()}`;
  port = 0;

  /** Starts one, on SQLite or on a PostgreSQL database made for it, with more in its environment if need be. */
  static async start({ database = 'SQLite', environment = {} } = {}) {
    const server = new Server();
    server.#environment = environment;
    server.#directory = await mkdtemp(join(tmpdir(), 'rexec-e2e-'));
    open.add(server);
    try {
      if (database === 'PostgreSQL') server.#database = await postgresDatabase();
      await server.boot();
      // It serves before its engine has answered, and says so here.
      await eventually('the server is ready', async () => {
        const { status, body } = await server.ask('GET', '/ready');
        if (status !== 200) throw new Error(`/ready says ${JSON.stringify(body)}; is an engine running at DOCKER_HOST?`);
        return true;
      });
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  get log() {
    return this.#log.join('\n');
  }

  /** Starts the process, on the same port and data as before if there was one. */
  async boot() {
    const { DATABASE_URL: _, ...inherited } = process.env;
    const child = spawn(rexecBinary(), ['serve'], {
      cwd: this.#directory,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...inherited,
        HOST: '127.0.0.1',
        PORT: String(this.port),
        REXEC_SSH_PORT: '0',
        REXEC_DATA_DIR: join(this.#directory, 'data'),
        // Should this process be killed, `scripts/leftovers.sh` knows by it what to take away.
        REXEC_ENGINE_LABELS: `rexec.test=e2e,${this.#label}`,
        // The tests sign in and ask more often than a person would.
        REXEC_REQUESTS_PER_SECOND: '0',
        REXEC_SIGN_INS_PER_MINUTE: '0',
        // There is no registry of the templates' images here.
        REXEC_PREPULL: 'false',
        ...this.#environment,
        ...(this.#database ? { DATABASE_URL: this.#database.url, JWT_SECRET: 'a secret that only this test knows' } : {}),
      },
    });
    this.#process = child;
    createInterface({ input: child.stderr }).on('line', (line) => this.#keep(line));
    const ready = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        this.#keep(line);
        const address = /^Rexec is ready: http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
        if (address) resolve(Number(address[1]));
      });
    });
    const port = await Promise.race([
      ready,
      once(child, 'exit').then(() => undefined),
      new Promise((resolve) => setTimeout(resolve, READY_MS_MAX).unref()),
    ]);
    if (port === undefined) throw new Error(`the server did not become ready:\n${this.log}`);
    this.port = port;
  }

  #keep(line) {
    this.#log.push(line);
    if (this.#log.length > LOG_LINES_MAX) this.#log.shift();
  }

  /** Ends the process as a crash does. */
  async kill() {
    await this.#end('SIGKILL');
  }

  /** Ends the process as an operator does. */
  async stop() {
    await this.#end('SIGTERM');
  }

  async #end(signal) {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const patience = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
    await gone;
    clearTimeout(patience);
  }

  get running() {
    return this.#process?.exitCode === null && this.#process.signalCode === null;
  }

  async close() {
    if (!open.delete(this)) return;
    try {
      if (this.port !== 0) {
        if (!this.running) await this.boot();
        await this.deleteWorkspaces();
      }
    } finally {
      await this.#end('SIGTERM');
      await sweep(this.#label);
      await this.#database?.drop();
      await rm(this.#directory, { recursive: true, force: true });
    }
  }
}
