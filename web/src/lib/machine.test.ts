import { expect, test } from 'vitest';
import type { WorkspaceView } from './api/types';
import { homeOf, joinCommand, made, mayAct, viewsOf } from './machine';

const machine = { os: 'Debian', arch: 'x86_64', hostname: 'h', user: 'ann', home: '/home/ann', version: '0.1.0' };
const workspace = (more: Partial<WorkspaceView>): WorkspaceView => ({ image: 'alpine', status: 'running', ...more }) as WorkspaceView;

test('a machine has what it has', () => {
  const [joined, other] = [workspace({ machine }), workspace({})];
  expect(viewsOf(joined)).toEqual(['terminals', 'files', 'ports', 'settings']);
  expect(viewsOf(other)).toContain('snapshots');
  const stop = { action: 'stop' as const, when: ['running'] };
  expect([mayAct(joined, stop), mayAct(other, stop)]).toEqual([false, true]);
  expect([homeOf(joined), homeOf(other)]).toEqual(['/home/ann', '/home/user']);
  expect([made(joined), made(other)]).toEqual(['Debian · x86_64', 'alpine']);
  expect(made(workspace({ machine: { ...machine, os: '', arch: '' } }))).toBe('not connected yet');
});

test('the command says what the address asks for', () => {
  expect(joinCommand('https://a.example', 't', false)).toBe('rexec join https://a.example --token t');
  expect(joinCommand('http://localhost:8080', 't', true)).toBe('rexec join http://localhost:8080 --token t --systemd > rexec-machine.service');
  for (const origin of ['http://a.example', 'http://10.0.0.1:1']) expect(joinCommand(origin, 't', false)).toContain(' --insecure-http');
});
