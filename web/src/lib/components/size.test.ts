import { expect, test } from 'vitest';
import { beyond } from './size';

test('what the host cannot give has its reason', () => {
  const host = { cpu: 2, memory_mb: 4096 };
  expect(beyond({ cpu: 2, memory_mb: 4096 }, host)).toBeUndefined();
  expect(beyond({ cpu: 4, memory_mb: 1024 }, host)).toBe('The host has 2 cores');
  expect(beyond({ cpu: 1, memory_mb: 8192 }, host)).toContain('The host has 4');
  expect(beyond({ cpu: 64, memory_mb: 8192 }, undefined)).toBeUndefined();
});
