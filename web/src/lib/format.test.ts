import { expect, test } from 'vitest';
import { bytes, cores, count, duration, mebibytes, permissions, since, until } from './format';

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
  expect([512, 1024, 1536, 32_768].map(mebibytes)).toEqual(['512 MiB', '1 GiB', '1.5 GiB', '32 GiB']);
  expect([1, 0.5, 2].map(cores)).toEqual(['1 core', '0.5 cores', '2 cores']);
});

test('sizes keep to four digits and a unit', () => {
  const KIB = 1024;
  expect([0, 1023, 1024, 1234, 99.94 * KIB, 99.96 * KIB, 1023.4 * KIB, 1023.6 * KIB, 1.5 * KIB ** 3, 5 * KIB ** 3, 4000 * KIB ** 4].map(bytes)).toEqual([
    '0 B', '1023 B', '1 KiB', '1.2 KiB', '99.9 KiB', '100 KiB', '1023 KiB', '1 MiB', '1.5 GiB', '5 GiB', '4000 TiB',
  ]);
});

test('counts keep to three digits and a letter', () => {
  expect([0, 999, 1000, 1234, 99_940, 99_960, 999_499, 999_500, 1_200_000, 3.4e9, 5e15].map(count)).toEqual([
    '0', '999', '1 k', '1.2 k', '99.9 k', '100 k', '999 k', '1 M', '1.2 M', '3.4 G', '5000 T',
  ]);
});

test('permissions look as in a listing', () => {
  expect([0o755, 0o644, 0, 0o4755, 0o2711, 0o1777, 0o4644, 0o1666].map(permissions)).toEqual([
    'rwxr-xr-x', 'rw-r--r--', '---------', 'rwsr-xr-x', 'rwx--s--x', 'rwxrwxrwt', 'rwSr--r--', 'rw-rw-rwT',
  ]);
});
