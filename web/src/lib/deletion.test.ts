import { expect, test } from 'vitest';
import type { WorkspaceView } from './api/types';
import { announced } from './deletion';

const idle = (more: object): Pick<WorkspaceView, 'idle'> => ({ idle: { sentence: '', ...more } });

test('a deletion is told once it is announced, by how long there is', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const deletes_at = '2026-01-02T03:00:00.342Z';
  expect(announced(idle({ deletes_at, deletion_announced: true }), now)).toMatch(/^Will be deleted in 1d 3h \(.*\d:\d\d.*\)$/);
  expect(announced(idle({ deletes_at, deletion_announced: false }), now)).toBeUndefined();
  expect(announced(idle({ deletion_announced: true }), now)).toBeUndefined();
});
