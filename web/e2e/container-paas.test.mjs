// The image of Dockerfile, as a platform runs it: nobody's root, no socket, an engine behind SSH.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { Bench, ContainerServer, docker, usualNetwork } from './container.mjs';
import { eventually } from './environment.mjs';

const run = promisify(execFile);
const SOCKET = (process.env.DOCKER_HOST || 'unix:///var/run/docker.sock').replace('unix://', '');

/** OpenSSH's server at an address, for one key. `kill` ends it. */
async function startSshd(directory, address) {
  for (const name of ['client', 'host']) {
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', join(directory, name)]);
  }
  await mkdir('/run/sshd', { recursive: true });
  const probe = createServer().listen(0, address);
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await writeFile(join(directory, 'sshd_config'), [
    `Port ${port}`, `ListenAddress ${address}`, `HostKey ${directory}/host`, `AuthorizedKeysFile ${directory}/client.pub`, 'PidFile none',
    'UsePAM no', 'StrictModes no', 'PermitRootLogin yes', 'PasswordAuthentication no', '',
  ].join('\n'));
  const sshd = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', join(directory, 'sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] });
  await once(sshd.stderr, 'data');
  assert.equal(sshd.exitCode, null, 'sshd runs');
  return { port, key: await readFile(join(directory, 'client'), 'utf8'), kill: () => sshd.kill() };
}

describe('the container for a platform', { timeout: 180_000 }, () => {
  let bench, sshd, server, workspace;

  before(async () => {
    bench = await Bench.open();
    const { gateway } = await usualNetwork();
    sshd = await startSshd(bench.directory, gateway);
    server = new ContainerServer(bench);
    await server.start(await bench.build('Dockerfile'), {
      environment: {
        DOCKER_HOST: `ssh://root@${gateway}:${sshd.port}${SOCKET}`,
        // As platforms' forms have it: in one line.
        SSH_PRIVATE_KEY: sshd.key.replaceAll('\n', '\\n'),
      },
    });
  });
  after(async () => {
    if (server?.url && (await server.state).Running) await server.deleteWorkspaces();
    sshd?.kill();
    await bench?.close();
  });

  it('runs as nobody in particular, and is found healthy', async () => {
    assert.equal(await server.exec('id', '-u'), '10001');
    assert.match(await server.exec('ls', '-ld', '/var/lib/rexec'), /^drwx------\S* \d+ rexec rexec /);
    await eventually('it is healthy', async () => (await server.state).Health.Status === 'healthy');
  });

  it('has a working terminal in a workspace of that engine', async () => {
    await server.register();
    workspace = await server.workspace('box');
    await server.type(workspace.id, 'echo typed-$((40+2)) by $(id -un)', /^typed-42 by user/);
  });

  it('ends when it is asked to, and leaves the workspace running', async () => {
    assert.equal(await server.stop(), 0, await server.log);
    await docker(['start', server.id]);
    await server.ready();
    const view = await eventually('the workspace is reached again', async () => {
      const now = await server.api('GET', `/api/workspaces/${workspace.id}`);
      return now.status === 'running' && now;
    });
    assert.equal(view.started_at, workspace.started_at);
  });
});
