import { expect, test } from 'vitest';
import { cores, duration, memory, since } from './format';

test('durations have two units at most and no empty one', () => {
  expect([0, 59.9, 60, 3599, 3600, 11_520, 86_400, 93_600, -5].map(duration)).toEqual([
    '0s', '59s', '1m', '59m', '1h', '3h 12m', '1d', '1d 2h', '0s',
  ]);
  expect(since(null, 0)).toBe('never');
  expect(since('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:05:00Z'))).toBe('5m');
});

test('figures read well', () => {
  expect([512, 1024, 1536, 32_768].map(memory)).toEqual(['512 MB', '1 GB', '1.5 GB', '32 GB']);
  expect([1, 0.5, 2].map(cores)).toEqual(['1 core', '0.5 cores', '2 cores']);
});
