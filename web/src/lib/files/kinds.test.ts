import { expect, test } from 'vitest';
import { imageType, look, textOf } from './kinds';

const bytes = (...values: number[]): ArrayBuffer => new Uint8Array(values).buffer;
const utf8 = (text: string): ArrayBuffer => bytes(...new TextEncoder().encode(text));

test('only what survives a save is text', () => {
  expect(textOf(utf8('plain ä 世界'))).toEqual({ text: 'plain ä 世界', ending: '\n' });
  expect(textOf(bytes(0xff, 0xfe))).toBeUndefined();
  expect(textOf(utf8('a\0b'))).toBeUndefined();
  // A byte order mark stays where it is.
  expect(textOf(bytes(0xef, 0xbb, 0xbf, 0x61))?.text).toBe('\uFEFFa');
});

test('line endings are kept as they are', () => {
  expect(textOf(utf8('a\r\nb\r\n'))?.ending).toBe('\r\n');
  expect(textOf(utf8('a\r\nb\n'))?.ending).toBe('\n');
});

test('names tell what they hold', () => {
  expect([imageType('A.PNG'), imageType('x.svg'), imageType('png')]).toEqual(['image/png', 'image/svg+xml', undefined]);
  expect(look({ kind: 'file', name: 'main.rs' })).toBe('code');
  expect(look({ kind: 'directory', name: 'main.rs' })).toBe('folder');
  expect(look({ kind: 'file', name: 'a.tar.zst' })).toBe('archive');
});
