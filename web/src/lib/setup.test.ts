import { expect, test } from 'vitest';
import { printedBy } from './setup';

test('a step has printed what stands below its name', () => {
  expect(printedBy({ name: 'Fetch', output: 'Fetch\nERROR: none\n' })).toBe('ERROR: none');
  expect(printedBy({ name: 'Fetch', output: 'Fetch\n' })).toBe('');
  expect(printedBy({ name: 'Fetch', output: 'Fetching\nFetch' })).toBe('Fetching\nFetch');
  expect(printedBy({ name: 'Fetch', output: 'cut off\nERROR' })).toBe('cut off\nERROR');
});
