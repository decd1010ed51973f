import { expect, test } from 'vitest';
import { baseName, crumbs, join, nameFault, normal, parent, resolve } from './paths';

test('paths are taken apart and put together', () => {
  expect([join('/', 'a'), join('/a', 'b'), parent('/a/b'), parent('/a'), parent('/'), baseName('/a/b.txt')]).toEqual([
    '/a', '/a/b', '/a', '/', '/', 'b.txt',
  ]);
  expect([normal('/a/../../b//./c/'), normal('/..'), normal('')]).toEqual(['/b/c', '/', '/']);
});

test('what is typed is a name, a path from here, from home or from the root', () => {
  expect(['x', '../x', '/etc/x', '~/x', '~', '~x', 'sub/x'].map((typed) => resolve('/home/user/a', typed))).toEqual([
    '/home/user/a/x', '/home/user/x', '/etc/x', '/home/user/x', '/home/user', '/home/user/a/~x', '/home/user/a/sub/x',
  ]);
});

test('crumbs begin at the home or at the root', () => {
  expect(resolve('/etc', '~/x', '/root')).toBe('/root/x');
  expect(crumbs('/home/user/a/b').map(({ label, path }) => `${label} ${path}`)).toEqual([
    '~ /home/user', 'a /home/user/a', 'b /home/user/a/b',
  ]);
  expect(crumbs('/').map(({ path }) => path)).toEqual(['/']);
  expect(crumbs('/root/a', '/root').map(({ label }) => label)).toEqual(['~', 'a']);
  expect(crumbs('/home/username').map(({ label }) => label)).toEqual(['/', 'home', 'username']);
});

test('names that cannot be are told', () => {
  expect([nameFault('a'), nameFault('ä'.repeat(127))]).toEqual([undefined, undefined]);
  for (const bad of ['', '  ', 'a/', 'a\0', 'ä'.repeat(128)]) expect(nameFault(bad)).toBeTruthy();
});
