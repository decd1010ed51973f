// The scripts of deploy/hetzner, run for real on a Debian that is a container: all that needs neither systemd nor Hetzner.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { Bench, docker, NESTED, ROOT, STAND_IN, usualNetwork } from './container.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

const run = promisify(execFile);
const SCRIPTS = join(ROOT, 'deploy/hetzner');
const CERTS = '/etc/docker/certs';
const DISK_BYTES = 512 * 2 ** 20;
/** As the document for Hetzner has it, and no other. */
const FIELDS = ['name', 'hostname', 'docker_port', 'tls_ca_path', 'tls_cert_path', 'tls_key_path', 'total_cpu', 'total_memory_mb', 'total_disk_gb'];

it('has scripts in which shellcheck finds nothing', async () => {
  const names = await readdir(SCRIPTS);
  assert.ok(names.length >= 5, names.join(' '));
  await run('shellcheck', ['-x', ...names.map((name) => `deploy/hetzner/${name}`)], { cwd: ROOT });
});

describe('a workspace server', { timeout: 180_000 }, () => {
  let bench, server, body, files, id, gateway, network, address, disk, loop;

  const exec = (command, variables = {}) =>
    docker(['exec', ...Object.entries(variables).flatMap(([name, value]) => ['--env', `${name}=${value}`]), id, 'bash', '-euo', 'pipefail', '-c', command]);
  const init = (variables) => exec('/scripts/workspace-server-init.sh 2>&1', { SERVER_NAME: 'ws-1', PLATFORM_SERVER_IP: gateway, PRIVATE_NETWORK: network, ...variables });
  const hashes = () => exec(`sha256sum ${CERTS}/* /etc/docker/daemon.json /etc/ufw/*.rules /etc/fail2ban/jail.d/* /etc/fstab; ufw status`);

  before(async () => {
    bench = await Bench.open();
    ({ gateway, network } = await usualNetwork());
    disk = join(bench.directory, 'disk');
    const file = await open(disk, 'w');
    await file.truncate(DISK_BYTES);
    await file.close();
    loop = (await run('losetup', ['--find', '--show', disk])).stdout.trim();
    id = await docker(['run', '--detach', ...bench.labels, '--user', '0', ...NESTED, '--device', `${loop}:/dev/data`,
      '--volume', '/sys/fs/cgroup:/sys/fs/cgroup:rw', '--volume', `${SCRIPTS}:/scripts:ro`, STAND_IN, 'sleep', 'infinity']);
    address = await docker(['inspect', '--format', '{{.NetworkSettings.IPAddress}}', id]);
  });
  after(async () => {
    await server?.close();
    await bench?.close();
    if (loop) await run('losetup', ['--detach', loop]);
  });

  it('wants to know the platform, and to be on its network', async () => {
    await assert.rejects(init({ PLATFORM_SERVER_IP: '' }), /PLATFORM_SERVER_IP is not set/);
    await assert.rejects(init({ PRIVATE_NETWORK: '10.0.0.0/16' }), /is not of 10\.0\.0\.0\/16/);
  });

  it('formats no disk that holds data', async () => {
    await exec('mkfs.ext4 -q /dev/data');
    await assert.rejects(init({ DATA_DISK: '/dev/data' }), /is not formatted: it holds TYPE=ext4/);
    assert.equal(await exec('blkid -p -o value -s TYPE /dev/data'), 'ext4');
    // No file system that anybody knows, and still somebody's.
    await exec('wipefs -qa /dev/data; echo precious | dd of=/dev/data bs=1M seek=1 conv=notrunc status=none');
    await assert.rejects(init({ DATA_DISK: '/dev/data' }), /is not formatted: it is not empty/);
    assert.match(await exec('dd if=/dev/data bs=8 skip=131072 count=1 status=none'), /^precious/);
    await assert.rejects(init({ DATA_DISK: '/dev/nothing' }), /is no disk/);
  });

  it('is set up, with an empty disk, and says how to register it', async () => {
    await exec(`dd if=/dev/zero of=/dev/data bs=4M count=${DISK_BYTES / 2 ** 22} conv=notrunc status=none`);
    const said = await init({ DATA_DISK: '/dev/data' });
    assert.match(said, /made xfs on \/dev\/data/);
    const mounted = await exec('findmnt -no FSTYPE,OPTIONS /mnt/data');
    assert.match(mounted, /^xfs /);
    // Where the kernel has quotas they are on, and where it has none that is said.
    assert.ok(/prjquota/.test(mounted) !== /this kernel has no quotas/.test(said), `${mounted}\n${said}`);
    body = JSON.parse(/-d '(\{[^']*\})'/.exec(said)[1]);
    assert.deepEqual(Object.keys(body), FIELDS);
    assert.deepEqual([body.name, body.hostname, body.docker_port, body.tls_ca_path], ['ws-1', address, 2376, '/etc/rexec/certs/ws-1/ca.pem']);
    assert.ok((await exec('ufw status')).replace(/ +/g, ' ').includes(`2376/tcp ALLOW ${network}`));
    assert.match(await exec('iptables -t mangle -S FORWARD'), /-d 169\.254\.0\.0\/16 -i rexec0 -j DROP/);
    assert.match(await exec('fail2ban-client --test 2>&1'), /OK/);
    // Nobody's key is let in.
    await assert.rejects(exec('ls /root/.ssh/authorized_keys'), /No such file/);
  });

  it('has certificates that verify, for its names alone', async () => {
    for (const [kind, purpose] of [['server', 'sslserver'], ['client', 'sslclient']]) {
      assert.match(await exec(`openssl verify -CAfile ${CERTS}/ca.pem -purpose ${purpose} ${CERTS}/${kind}-cert.pem`), /: OK$/);
    }
    await assert.rejects(exec(`openssl verify -CAfile ${CERTS}/ca.pem -purpose sslserver ${CERTS}/client-cert.pem`), /purpose/);
    for (const option of [`-verify_ip ${address}`, '-verify_hostname ws-1']) await exec(`openssl verify -CAfile ${CERTS}/ca.pem ${option} ${CERTS}/server-cert.pem`);
    await assert.rejects(exec(`openssl verify -CAfile ${CERTS}/ca.pem -verify_ip 10.1.2.3 ${CERTS}/server-cert.pem`), /mismatch/);
    assert.equal(await exec(`stat -c %a ${CERTS} ${CERTS}/*-key.pem | sort -u | paste -sd' '`), '600 700');
  });

  it('changes nothing when it is run again', async () => {
    const before = await hashes();
    const said = await init({ DATA_DISK: '/dev/data' });
    assert.match(said, /Nothing was to be changed/);
    assert.equal(await hashes(), before);
  });

  it('has a Docker that answers who shows a certificate, and knows gVisor', async () => {
    await docker(['exec', '--detach', '--env', 'DOCKER_DRIVER=vfs', id, 'sh', '-c', `dockerd -H unix:///var/run/docker.sock -H tcp://${address}:2376 >/tmp/dockerd.log 2>&1`]);
    files = join(bench.directory, 'certs');
    await mkdir(files);
    for (const name of ['ca', 'client-cert', 'client-key']) await docker(['cp', `${id}:${CERTS}/${name}.pem`, files]);
    const remote = ['-H', `tcp://${address}:2376`, '--tlsverify', '--tlscacert', `${files}/ca.pem`];
    const known = [...remote, '--tlscert', `${files}/client-cert.pem`, '--tlskey', `${files}/client-key.pem`];
    const asked = ['info', '--format', '{{json .Runtimes.runsc}} {{.LiveRestoreEnabled}} {{.DockerRootDir}}'];
    const told = await eventually('it answers', () => docker([...known, ...asked]), 30_000);
    assert.match(told, /"runtimeArgs":\["--overlay2=none"\].* true \/mnt\/data\/docker$/);
    await assert.rejects(docker([...remote, ...asked]), /certificate/);
    const status = await exec('rexec-workspace-status || echo needs a hand');
    assert.match(status, new RegExp(`tls +${address}:2376[^]*gvisor +runsc[^]*client-cert +ends in 36[45] days[^]*firewall +2376 from ${network}`));
    assert.doesNotMatch(status, /needs a hand/);
  });

  it('is registered by what it has printed', async () => {
    server = await Server.start();
    await server.register();
    const here = Object.fromEntries(Object.entries(body).map(([name, value]) => [name, name.endsWith('_path') ? value.replace('/etc/rexec/certs/ws-1', files) : value]));
    const made = await server.api('POST', '/api/admin/servers', here);
    assert.deepEqual([made.name, made.total_cpu, made.total_memory_mb], ['ws-1', body.total_cpu, body.total_memory_mb]);
    assert.ok(made.address.includes(address) && made.certificate_expires_at && made.found, JSON.stringify(made));
    await server.api('DELETE', `/api/admin/servers/${made.id}`);
  });

  it('renews what ends soon, and replaces its CA while both are trusted', async () => {
    const serial = (kind) => exec(`openssl x509 -in ${CERTS}/${kind}-cert.pem -noout -serial`);
    const verifies = (ca, certificate) => exec(`openssl verify -CAfile ${ca} ${certificate}`);
    const [server, client] = [await serial('server'), await serial('client')];
    await exec(`cp ${CERTS}/ca.pem /tmp/ca-before.pem; cp ${CERTS}/client-cert.pem /tmp/client-before.pem`);
    await exec('rexec-workspace-certs ensure');
    assert.deepEqual([await serial('server'), await serial('client')], [server, client]);
    // One that ends within the month.
    await exec(`cd ${CERTS}; openssl x509 -x509toreq -copy_extensions copy -in server-cert.pem -signkey server-key.pem -out /tmp/request
      openssl x509 -req -in /tmp/request -copy_extensions copy -CA own-ca.pem -CAkey own-ca-key.pem -set_serial 7 -days 5 -out server-cert.pem`);
    await assert.rejects(exec('rexec-workspace-status'), /server-cert +! ends in/);
    await exec('rexec-workspace-certs ensure');
    await exec('rexec-workspace-status');
    assert.deepEqual([await serial('server') !== 'serial=07', await serial('client')], [true, client]);
    await exec('rexec-workspace-certs renew');
    assert.ok(await serial('server') !== server && await serial('client') !== client);
    await verifies(`${CERTS}/ca.pem`, '/tmp/client-before.pem');

    await exec('rexec-workspace-certs ca-next');
    // The daemon still shows what clients with the former files trust, and takes the former clients and the new ones.
    await verifies('/tmp/ca-before.pem', `${CERTS}/server-cert.pem`);
    await verifies(`${CERTS}/ca.pem`, '/tmp/client-before.pem');
    await verifies(`${CERTS}/ca.pem`, `${CERTS}/client-cert.pem`);
    await exec(`cp ${CERTS}/ca.pem /tmp/ca-both.pem`);
    await exec('rexec-workspace-certs ca-done');
    await verifies('/tmp/ca-both.pem', `${CERTS}/server-cert.pem`);
    await assert.rejects(verifies(`${CERTS}/ca.pem`, '/tmp/client-before.pem'));
    await assert.rejects(exec('rexec-workspace-certs ca-done'), /no new CA/);
  });
});

describe('a platform server', { timeout: 120_000 }, () => {
  it('is set up without Coolify, twice alike', async () => {
    const bench = await Bench.open();
    try {
      const id = await docker(['run', '--detach', ...bench.labels, '--user', '0', ...NESTED, '--volume', `${SCRIPTS}:/scripts:ro`, STAND_IN, 'sleep', 'infinity']);
      const init = () => docker(['exec', '--env', 'INSTALL_COOLIFY=no', id, 'bash', '-c', '/scripts/platform-server-init.sh 2>&1']);
      assert.match(await init(), /things were changed/);
      const rules = await docker(['exec', id, 'ufw', 'status']);
      assert.match(rules, /22\/tcp[^]*80\/tcp[^]*443\/tcp/);
      assert.doesNotMatch(rules, /8000|2376/);
      assert.match(await init(), /Nothing was to be changed/);
    } finally {
      await bench.close();
    }
  });
});
