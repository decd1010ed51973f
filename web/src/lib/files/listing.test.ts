import { expect, test } from 'vitest';
import type { FileInfo } from '../api/types';
import { arrange } from './listing';

const info = (name: string, over: Partial<FileInfo> = {}): FileInfo => ({
  name, path: `/${name}`, kind: 'file', size: 0, mode: 0o644, uid: 0, gid: 0, modified_ms: 0, etag: '', target: null, ...over,
});
const names = (list: FileInfo[], ...rest: Parameters<typeof arrange> extends [unknown, ...infer R] ? R : never): string =>
  arrange(list, ...rest).map(({ name }) => name).join(' ');

const LIST = [info('b10', { size: 5 }), info('b2', { size: 9 }), info('.rc'), info('src', { kind: 'directory' }), info('A', { modified_ms: 3 })];

test('folders come first, and numbers count', () => {
  expect(names(LIST, { column: 'name', descending: false }, false, '')).toBe('src A b2 b10');
  expect(names(LIST, { column: 'name', descending: true }, true, '')).toBe('src b10 b2 A .rc');
  expect(names(LIST, { column: 'size', descending: true }, false, '')).toBe('src b2 b10 A');
  expect(names(LIST, { column: 'modified', descending: true }, false, '')).toBe('src A b10 b2');
  expect(names(LIST, { column: 'name', descending: false }, false, 'B')).toBe('b2 b10');
});

test('names that look alike stay two entries', () => {
  const keys = arrange([info('x\uFFFD'), info('x\uFFFD')], { column: 'name', descending: false }, true, '').map(({ key }) => key);
  expect(new Set(keys).size).toBe(2);
});
