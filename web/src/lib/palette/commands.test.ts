import { expect, test } from 'vitest';
import type { WorkspaceView } from '../api/types';
import { commands, find } from './commands';

const workspace = (id: string, name: string, status: WorkspaceView['status']): WorkspaceView =>
  ({ id, name, status }) as WorkspaceView;
const LIST = [workspace('a', 'atlas', 'running'), workspace('b', 'sandbox', 'stopped')];

test('what is near comes first, and what could be meant is found', () => {
  const here = commands({ page: 'workspace', id: 'b', view: 'files' }, LIST, []);
  expect(find('', here).map(({ label }) => label)).toEqual([
    'sandbox: Terminals', 'sandbox: Files', 'sandbox: Ports', 'sandbox: Network', 'sandbox: Snapshots', 'sandbox: Usage', 'sandbox: Settings', 'Start sandbox', 'atlas', 'New workspace', 'Join a machine', 'All workspaces', 'Storage', 'Account', 'Sign out',
  ]);
  expect(find('atlas fi', here)[0]?.effect).toEqual({ kind: 'go', address: '/w/a/files' });
  expect(find('stop', here)[0]?.effect).toEqual({ kind: 'act', workspace: 'a', action: 'stop' });
  expect(find('no such thing', here)).toEqual([]);
  expect(find('servers', here)).toEqual([]);
  expect(find('servers', commands({ page: 'dashboard' }, LIST, [], 'admin'))[0]?.effect).toEqual({ kind: 'go', address: '/servers' });
});
