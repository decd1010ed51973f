import { expect, test } from 'vitest';
import { accessOf, draftOf, isSame, namesIn, placeOf, standsFor } from './github';

test('names are read as people write lists', () => {
  expect(namesIn(' acme/app, acme/lib\nacme-labs/*\r\n')).toEqual(['acme/app', 'acme/lib', 'acme-labs/*']);
  expect(namesIn(' ,\n')).toEqual([]);
});

test('what is kept is shown line by line, and asked for again as it is', () => {
  const access = { repositories: ['acme/app', 'acme/*'], branches: ['agent/*', 'next'], read_only: false };
  expect(draftOf(access)).toEqual({ repositories: 'acme/app\nacme/*', branches: 'agent/*\nnext', readOnly: false });
  expect(accessOf(draftOf(access))).toEqual(access);
  expect(draftOf(null)).toEqual({ repositories: '', branches: '', readOnly: false });
});

test('branches say nothing where nothing is pushed', () => {
  expect(accessOf({ repositories: 'acme/app', branches: 'main', readOnly: true })).toEqual({ repositories: ['acme/app'], branches: [], read_only: true });
});

test('what the server leaves out is no change', () => {
  expect(isSame(accessOf({ repositories: 'acme/app,', branches: '', readOnly: false }), { repositories: ['acme/app'] })).toBe(true);
  expect(isSame(accessOf({ repositories: 'acme/app', branches: 'main', readOnly: false }), { repositories: ['acme/app'] })).toBe(false);
  expect(isSame(accessOf(draftOf(null)), null)).toBe(false);
});

test('a refusal stands where it belongs', () => {
  expect([placeOf('egress.github.repositories'), placeOf('egress.github.branches'), placeOf('egress.github'), placeOf(undefined)]).toEqual(['repositories', 'branches', 'all', 'all']);
});

test('what it comes to is told in a sentence', () => {
  const told = (repositories: string[], branches: string[] = [], readOnly = false): string => standsFor({ repositories, branches, read_only: readOnly }, 'in_force');
  expect(standsFor(null, 'in_force')).toContain('what everybody sees');
  expect(told(['acme/app'])).toBe('It reads and changes acme/app, on all branches.');
  expect(told(['acme/*', 'x/y'], ['agent/*'])).toBe('It reads all of acme and x/y, and pushes to agent/* alone.');
  expect(told(['a/b', 'a/c', 'a/d', 'a/e'], [], true)).toBe('It reads a/b, a/c and 2 more, and changes nothing there.');
  expect(told(['*'], ['a', 'b', 'c'])).toBe('It reads every repository, and pushes to a, b and c alone.');
});

test('what does not hold yet says so', () => {
  const [given, typed] = [{ repositories: ['a/b'] }, { repositories: ['a/b'], read_only: true }];
  expect(standsFor(given, 'next_start')).toBe('Once restarted, it reads and changes a/b, on all branches.');
  expect(standsFor(given, 'next_start', typed)).toBe('Once saved, it reads a/b, and changes nothing there.');
  expect(standsFor(given, 'in_force', { repositories: [] })).toBe('It reads and changes a/b, on all branches.');
});
