import { expect, test } from 'vitest';
import { bytes, cores, duration, memory, memoryBytes, permissions, since, until } from './format';

test('durations have two units at most and no empty one', () => {
  expect([0, 59.9, 60, 3599, 3600, 11_520, 86_400, 93_600, -5].map(duration)).toEqual([
    '0s', '59s', '1m', '59m', '1h', '3h 12m', '1d', '1d 2h', '0s',
  ]);
  expect(since(null, 0)).toBe('never');
  expect(since('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:05:00Z'))).toBe('5m');
});

test('what is to come is told by how long it takes', () => {
  expect(until('2026-01-08T00:00:00Z', Date.parse('2026-01-01T01:00:00Z'))).toBe('in 6d 23h');
  expect(until('2026-01-01T00:00:00Z', Date.parse('2026-01-01T01:00:00Z'))).toBe('now');
});

test('figures read well', () => {
  expect([512, 1024, 1536, 32_768].map(memory)).toEqual(['512 MB', '1 GB', '1.5 GB', '32 GB']);
  expect([2_936_012, 2 ** 31, 1.5 * 2 ** 30, 300 * 2 ** 20].map(memoryBytes)).toEqual(['2.8 MB', '2 GB', '1.5 GB', '300 MB']);
  expect([1, 0.5, 2].map(cores)).toEqual(['1 core', '0.5 cores', '2 cores']);
});

test('sizes keep to four characters and a unit', () => {
  expect([0, 999, 1000, 1234, 99_949, 99_951, 999_499, 999_500, 1.5e9, 4e15].map(bytes)).toEqual([
    '0 B', '999 B', '1 kB', '1.2 kB', '99.9 kB', '100 kB', '999 kB', '1 MB', '1.5 GB', '4000 TB',
  ]);
});

test('permissions look as in a listing', () => {
  expect([0o755, 0o644, 0, 0o4755, 0o2711, 0o1777, 0o4644, 0o1666].map(permissions)).toEqual([
    'rwxr-xr-x', 'rw-r--r--', '---------', 'rwsr-xr-x', 'rwx--s--x', 'rwxrwxrwt', 'rwSr--r--', 'rw-rw-rwT',
  ]);
});
