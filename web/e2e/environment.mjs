// What the tests need from outside, by name. Missing parts fail with a sentence; nothing is skipped.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

const POLL_MS = 25;
const PSQL_MS_MAX = 20_000;

/** The value of a variable; `make test` sets them all. */
function needed(name, meaning) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set. It names ${meaning}; \`make test\` sets it.`);
  return value;
}

function program(name, meaning) {
  const path = needed(name, meaning);
  try {
    accessSync(path, constants.X_OK);
  } catch {
    throw new Error(`${name} names ${path}, which is no program. It must name ${meaning}.`);
  }
  return path;
}

export const rexecBinary = () => program('REXEC_BIN', 'the rexec binary under test');
export const chromiumBinary = () => program('REXEC_CHROMIUM', 'a Chromium');

/** Asks again until the answer is neither undefined nor false, and returns it. */
export async function eventually(what, ask, timeoutMs = 20_000) {
  const deadline = Date.now() + timeoutMs;
  let last;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last });
    await pause(POLL_MS);
  }
}

async function psql(url, statement) {
  try {
    await run('psql', [url, '--no-psqlrc', '--quiet', '--command', statement], { timeout: PSQL_MS_MAX });
  } catch (error) {
    throw new Error(`psql could not run ${statement}: ${error.stderr || error.message}`);
  }
}

/** A PostgreSQL database of our own, and what removes it. */
export async function postgresDatabase() {
  const server = needed('REXEC_TEST_POSTGRES_URL', 'a PostgreSQL server on which databases may be created');
  const name = `rexec_e2e_${randomUUID().replaceAll('-', '')}`;
  await psql(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => psql(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}
