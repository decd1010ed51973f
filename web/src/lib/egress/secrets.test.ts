import { expect, test } from 'vitest';
import type { SecretView } from '../api/types';
import { choicesOf, hostsIn, hostsTold } from './secrets';

test('hosts are read as people write them, and shown without what goes without saying', () => {
  expect(hostsIn(' a.example, *.b.example:8443\nc.example ')).toEqual(['a.example', '*.b.example:8443', 'c.example']);
  expect(hostsIn('  ')).toEqual([]);
  expect(hostsTold(['a.example:443', '*.b.example:8443'])).toEqual(['a.example', '*.b.example:8443']);
});

test('what a workspace names and nobody has is shown, so that it can be taken away', () => {
  const all = [{ name: 'KEY', hosts: ['a.example:443'] }, { name: 'TOKEN', hosts: ['b.example:443'] }] as SecretView[];
  expect(choicesOf(all, ['TOKEN', 'GONE']).map(({ name, given, missing }) => [name, given, missing])).toEqual([
    ['KEY', false, false],
    ['TOKEN', true, false],
    ['GONE', true, true],
  ]);
});
