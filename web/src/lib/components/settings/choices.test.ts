import { expect, test } from 'vitest';
import { choicesOf, hasOwn } from './choices';

test('what holds is always among the choices', () => {
  expect(choicesOf([300, 3600], 90).map(({ label }) => label)).toEqual(['1m', '5m', '1h', 'never']);
  expect(choicesOf([300], 0).map(({ value }) => value)).toEqual([300, 0]);
});

test('a workspace without own settings follows the server', () => {
  expect([hasOwn({}), hasOwn(null), hasOwn({ stop_after_s: 0 })]).toEqual([false, false, true]);
});
