import { expect, test } from 'vitest';
import { FIRST_BYTES, nextPiece } from './pieces';

test('pieces grow on a fast network up to a bound, and shrink on a slow one', () => {
  let size = FIRST_BYTES;
  for (let n = 0; n < 20; n += 1) size = nextPiece(size, 5);
  expect(size).toBe(8 * 1024 * 1024);
  expect(nextPiece(size, 60_000)).toBeLessThan(128 * 1024);
  for (let n = 0; n < 20; n += 1) size = nextPiece(size, 60_000);
  expect(size).toBe(64 * 1024);
  expect(nextPiece(FIRST_BYTES, 600)).toBe(FIRST_BYTES);
});
