// The image of Dockerfile.standalone: a rootless engine of its own inside, and what becomes of both when one of them ends.
import assert from 'node:assert/strict';
import { access } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { Bench, busyboxTar, ContainerServer, docker, ROOTLESS } from './container.mjs';
import { eventually } from './environment.mjs';

describe('the standalone container', { timeout: 240_000 }, () => {
  let bench, image, server, workspace, busybox;

  before(async () => {
    bench = await Bench.open();
    busybox = await busyboxTar(bench.directory);
    image = await bench.build('Dockerfile.standalone');
    server = new ContainerServer(bench);
    // The real base's shell is this one's.
    await server.start(image, { options: [...ROOTLESS, '--volume', '/bin/busybox:/bin/sh:ro'], environment: { DOCKER_DRIVER: 'vfs' } });
  });
  // Its workspaces are inside and go with it.
  after(() => bench?.close());

  const said = async (text) => (await server.log).split('\n').filter((line) => line.startsWith('start-standalone:') && line.includes(text));
  const runs = (text) => eventually('the workspace runs a command', async () => {
    const { stdout } = await server.api('POST', `/api/workspaces/${workspace.id}/exec`, { command: ['sh', '-c', `cat ~/kept; echo ${text}`] });
    return stdout === `kept\n${text}\n`;
  }, 60_000);

  it('has a rootless engine, of which everything is below the one volume', async () => {
    assert.equal(await server.exec('id', '-u'), '1000');
    assert.match(await server.exec('sh', '-c', 'sh --help 2>&1'), /BusyBox/);
    assert.match(await server.exec('docker', 'info', '--format', '{{.DockerRootDir}} {{.SecurityOptions}}'), /^\/var\/lib\/rexec\/docker .*name=rootless/);
    assert.equal((await said('the Docker daemon answers')).length, 1);
    await eventually('it is healthy', async () => (await server.state).Health.Status === 'healthy');
    // This machine's engine is not in it.
    await assert.rejects(access('/run/user/1000/docker.sock'));
  });

  it('has a working terminal in a workspace', async () => {
    await docker(['exec', '--interactive', server.id, 'docker', 'import', '-', 'rexec/base'], { input: busybox });
    await server.register();
    workspace = await server.workspace('box');
    await server.type(workspace.id, 'echo kept > ~/kept; echo typed-$((40+2))', /^typed-42/);
  });

  it('starts a daemon that died again, says so, and the workspace is back', async () => {
    await server.exec('pkill', '-KILL', '-x', 'dockerd');
    await eventually('it says so', async () => (await said('the Docker daemon ended')).length === 1);
    await runs('after the daemon');
    // Nothing of the one before lives on beside it.
    assert.equal(await server.exec('pgrep', '-c', '-x', 'dockerd'), '1');
    assert.equal(await server.exec('pgrep', '-c', '-f', 'guest init'), '1');
  });

  it('is the same after all of it was killed, stale files or not', async () => {
    await docker(['kill', server.id]);
    await docker(['start', server.id]);
    await server.ready();
    await runs('after the container');
  });

  it('ends the server, then the daemon, when it is asked to', async () => {
    assert.equal(await server.stop(), 0);
    assert.equal((await said('the server ended with exit code 0; stopping the Docker daemon')).length, 1);
    assert.match(await server.log, /Daemon shutdown complete/);
  });

  it('ends with the exit code of its server', async () => {
    const args = ['run', '--rm', ...bench.labels, ...ROOTLESS, '--env', 'DOCKER_DRIVER=vfs', '--env', 'PORT=nonsense', image];
    await assert.rejects(docker(args), /PORT[^]*the server ended with exit code 2/);
    await assert.rejects(docker(['run', '--rm', ...bench.labels, '--user', '0', image]), /no place for root/);
  });

  it('runs on a base without a glibc', async () => {
    const base = await docker(['import', ...bench.labels.flatMap((word) => (word === '--label' ? ['--change'] : [`LABEL ${word}`])), '-', 'rexec/no-glibc'], { input: busybox });
    const bare = await bench.build('Dockerfile.standalone', base);
    const asked = docker(['run', '--rm', ...bench.labels, '--add-host', 'there.example:127.0.0.1', '--entrypoint', '/usr/local/bin/rexec',
      '--volume', '/etc/ssl/certs/ca-certificates.crt:/etc/ssl/cert.pem:ro', '--env', 'REXEC_URL=http://there.example:9', '--env', 'REXEC_TOKEN=none', bare, 'whoami']);
    // The name was found; nobody listens there.
    await assert.rejects(asked, /refused/i);
  });
});
