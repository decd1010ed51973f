import { expect, test } from 'vitest';
import type { EventView } from '../api/types';
import { after, entryOf, namesIn } from './feed';

const event = (kind: string, data: Record<string, unknown> = {}, id: string | null = 'id'): EventView =>
  ({ id, kind, data, at: '2026-01-01T00:00:00Z', workspace_id: 'w' }) as EventView;

test('what happened is told, also by a newer server', () => {
  expect(entryOf(event('workspace.paused'))?.text).toBe('paused');
  expect(entryOf(event('workspace.limits_changed'))?.text).toBe('limits changed');
});

test('what was done by SSH is told with what let them in', () => {
  const data = { key: 'laptop', address: '192.0.2.1' };
  expect(entryOf(event('ssh.shell', data))?.detail).toBe('with the key “laptop”, from 192.0.2.1');
  expect(entryOf(event('ssh.forward', { token: 'ci', to: 'port 80' }))?.detail).toBe('port 80, with the token “ci”');
});

test('a status is told only when nobody asked for it', () => {
  const status = (data: Record<string, unknown>): string | undefined => entryOf(event('workspace.status', data, null))?.text;
  expect(status({ status: 'running' })).toBeUndefined();
  expect(status({ status: 'stopped' })).toBeUndefined();
  expect(status({ status: 'stopped', reason: 'Stopped after 30 minutes without input.' })).toBe('was stopped');
  expect(status({ status: 'error', error: 'image_not_found' })).toBe('failed');
});

test('a workspace that is gone is told of by its last name', () => {
  const feed = [event('workspace.deleted'), event('workspace.renamed', { from: 'one', to: 'two' }), event('workspace.created', { name: 'one' })];
  expect(namesIn(feed).get('w')).toBe('two');
  expect(namesIn(feed.slice(0, 1)).get('w')).toBeUndefined();
});

test('a workspace whose making was refused is not told of', () => {
  const feed = after([event('workspace.deleted')], { ...event('workspace.created'), workspace_id: 'v' });
  expect(feed.map(({ kind }) => kind)).toEqual(['workspace.created', 'workspace.deleted']);
  expect(after(feed, { ...event('workspace.unmade', {}, null), workspace_id: 'v' })).toEqual([event('workspace.deleted')]);
});
