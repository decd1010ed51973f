import { expect, test } from 'vitest';
import type { WorkspaceView } from '../../api/types';
import { awaited, choicesOf, hasOwn, wishOf } from './choices';

test('what holds is always among the choices', () => {
  expect(choicesOf([300, 3600], 90).map(({ label }) => label)).toEqual(['1m', '5m', '1h', 'never']);
  expect(choicesOf([300], 0).map(({ value }) => value)).toEqual([300, 0]);
});

test('a workspace without own settings follows the server', () => {
  expect([hasOwn({}), hasOwn(null), hasOwn({ stop_after_s: 0 })]).toEqual([false, false, true]);
});

test('limits that were asked for are shown, with what holds until they come', () => {
  const held = { status: 'running', cpu: 2, memory_mb: 2048, pids: 4096 } as WorkspaceView;
  expect(awaited(held)).toBeUndefined();
  const asked = { ...held, limits_wanted: { cpu: 4, memory_mb: 8192, pids: 500 } } as WorkspaceView;
  expect(wishOf(asked)).toEqual({ cpu: 4, memory_mb: 8192, pids: 500 });
  expect(awaited(asked)).toContain('2 cores, 2 GiB and 4,096 processes');
  expect(awaited({ ...asked, status: 'pulling' })).toContain('next starts');
});
