import { expect, test } from 'vitest';
import type { ServerView } from '../api/types';
import { accessOf, changeOf, empty, labelsText, newServer, valuesOf, type Values } from './draft';

const filled = (values: Partial<Values>): Values => ({ ...empty(), name: 'ws-1', ...values });

const SERVER = {
  id: 'h', name: 'second', is_local: false, region: 'cellar', labels: { disk: 'nvme', gpu: '' }, runtimes: null,
  total_cpu: 2.5, total_memory_mb: 4096, total_disk_gb: 0, max_workspaces: 4,
} as unknown as ServerView;

test('each way makes its own request, and nothing of the others goes with it', () => {
  const all = filled({
    region: ' eu-1 ', hostname: '10.0.1.10', docker_port: '2376', tls_ca_path: '/c/ca.pem', tls_cert_path: '/c/cert.pem', tls_key_path: '/c/key.pem',
    tls_ca: 'CA\n', tls_cert: 'CERT\n', tls_key: 'KEY\n', 'ssh.user': 'rexec', 'ssh.private_key': 'PRIVATE\n', 'ssh.port': '2222', socket: '/run/docker.sock',
  });
  const base = { name: 'ws-1', region: 'eu-1' };
  expect(newServer(all, 'tls', 'paths').request).toEqual({ ...base, hostname: '10.0.1.10', docker_port: 2376, tls_ca_path: '/c/ca.pem', tls_cert_path: '/c/cert.pem', tls_key_path: '/c/key.pem' });
  expect(newServer(all, 'tls', 'pem').request).toEqual({ ...base, hostname: '10.0.1.10', docker_port: 2376, tls_ca: 'CA', tls_cert: 'CERT', tls_key: 'KEY' });
  expect(newServer(all, 'ssh', 'paths').request).toEqual({ ...base, hostname: '10.0.1.10', ssh: { user: 'rexec', port: 2222, private_key: 'PRIVATE\n' } });
  expect(newServer(all, 'socket', 'paths').request).toEqual({ ...base, socket: '/run/docker.sock' });
});

test('room and rules are told only where they are', () => {
  const values = filled({ socket: '/s', total_cpu: '1.5', total_memory_mb: '0', max_workspaces: '3', labels: 'disk=nvme, gpu', runtimes: 'runc runsc', architecture: 'amd64' });
  expect(newServer(values, 'socket', 'paths').request).toEqual({
    name: 'ws-1', socket: '/s', total_cpu: 1.5, total_memory_mb: 0, max_workspaces: 3, labels: { disk: 'nvme', gpu: '' }, runtimes: ['runc', 'runsc'], architecture: 'amd64',
  });
});

test('what never gets to the server is told beside its field', () => {
  const field = (values: Partial<Values>, way: 'tls' | 'ssh' | 'socket' = 'socket'): string | undefined => newServer(filled({ socket: '/s', ...values }), way, 'paths').fault?.field;
  expect(field({ name: ' ' })).toBe('name');
  expect(field({ socket: '' })).toBe('socket');
  expect(field({}, 'tls')).toBe('hostname');
  expect(field({ hostname: 'a', tls_ca_path: '/ca' }, 'tls')).toBe('tls_cert_path');
  expect(field({ hostname: 'a', docker_port: '70000' }, 'tls')).toBe('docker_port');
  expect(field({ hostname: 'a', 'ssh.user': 'u' }, 'ssh')).toBe('ssh.private_key');
  expect(field({ total_memory_mb: '1.5' })).toBe('total_memory_mb');
  expect(field({ total_cpu: '-1' })).toBe('total_cpu');
  expect(field({ labels: '=x' })).toBe('labels');
  expect(field({ labels: 'a=1, a=2' })).toBe('labels');
  expect(field({})).toBeUndefined();
});

test('a change names what differs, and nothing else', () => {
  const change = (values: Partial<Values>): unknown => {
    const outcome = changeOf(SERVER, { ...valuesOf(SERVER), ...values });
    return outcome.request ?? outcome.fault?.field;
  };
  expect(change({})).toEqual({});
  expect(change({ name: 'third', region: 'attic' })).toEqual({ name: 'third', region: 'attic' });
  expect(change({ total_cpu: '4', total_memory_mb: '4096.0' })).toEqual({ total_cpu: 4 });
  expect(change({ total_disk_gb: '' })).toBe('total_disk_gb');
  expect(change({ max_workspaces: '' })).toEqual({ max_workspaces: null });
  expect(change({ labels: 'gpu' })).toEqual({ labels: { gpu: '' } });
  expect(change({ labels: '' })).toEqual({ labels: {} });
  expect(change({ runtimes: 'runsc' })).toEqual({ runtimes: ['runsc'] });
  expect(labelsText(SERVER.labels)).toBe('disk=nvme, gpu');
});

test('an address tells how a server is reached, and it is said anew as a whole', () => {
  expect(accessOf('unix:///run/user/1000/docker.sock')).toEqual({ way: 'socket', values: { socket: '/run/user/1000/docker.sock' } });
  expect(accessOf('tcp://10.0.1.10:2376')).toEqual({ way: 'tls', values: { hostname: '10.0.1.10', docker_port: '2376' } });
  expect(accessOf('tcp://ws-1.example.org')).toEqual({ way: 'tls', values: { hostname: 'ws-1.example.org', docker_port: '' } });
  expect(accessOf('ssh://rexec@[fe80::1]:22/run/d.sock')).toEqual({ way: 'ssh', values: { hostname: 'fe80::1', 'ssh.user': 'rexec', 'ssh.port': '22', 'ssh.socket': '/run/d.sock' } });
  const values = { ...valuesOf(SERVER), socket: '/run/docker.sock', max_workspaces: '5' };
  expect(changeOf(SERVER, values, { way: 'socket', material: 'paths' }).request).toEqual({ socket: '/run/docker.sock', max_workspaces: 5 });
  expect(changeOf(SERVER, values, { way: 'ssh', material: 'paths' }).fault?.field).toBe('hostname');
});
