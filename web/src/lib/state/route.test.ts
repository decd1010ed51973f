import { expect, test } from 'vitest';
import { filesAddress, parseRoute, viewAddress } from './route';

test('an address leads to a workspace, its view and what is shown in it', () => {
  expect(parseRoute('/')).toEqual({ page: 'dashboard' });
  expect(parseRoute('/storage')).toEqual({ page: 'storage' });
  expect(parseRoute('/servers')).toEqual({ page: 'servers' });
  expect(parseRoute('/w/')).toEqual({ page: 'dashboard' });
  expect(['/nope', '/unknown/path', '/storage/more', '/open-preview'].map((address) => parseRoute(address).page)).toEqual(Array(4).fill('not-found'));
  expect(parseRoute('/storage/')).toEqual({ page: 'storage' });
  expect(parseRoute('/w/abc')).toEqual({ page: 'workspace', id: 'abc', view: 'terminals' });
  expect(parseRoute('/w/abc/def')).toEqual({ page: 'workspace', id: 'abc', view: 'terminals', terminal: 'def' });
  expect(parseRoute(viewAddress('abc', 'snapshots'))).toEqual({ page: 'workspace', id: 'abc', view: 'snapshots' });
});

test('the way into a preview keeps where it leads', () => {
  const query = new URLSearchParams({ workspace: 'abc', port: '8080', path: '/a?b=c&d=%2F' });
  const route = { page: 'open-preview', id: 'abc', port: 8080, path: '/a?b=c&d=%2F', start: false };
  expect(parseRoute(`/open-preview?${query}`)).toEqual(route);
  expect(parseRoute('/open-preview?workspace=abc&port=80&path=https://evil&start')).toEqual({ ...route, port: 80, path: '/', start: true });
  expect(parseRoute('/open-preview?port=80')).toEqual({ page: 'not-found' });
});

test('a machine to sign in is led to with its code, or without', () => {
  expect(parseRoute('/device')).toEqual({ page: 'device' });
  expect(parseRoute('/device?code=WDJB-MJHT')).toEqual({ page: 'device', code: 'WDJB-MJHT' });
  expect(parseRoute('/device/more')).toEqual({ page: 'not-found' });
});

test('any folder and file name survives the address', () => {
  const path = '/home/user/a b?&#%+ä/..';
  expect(parseRoute(filesAddress('abc', path, 'x?y&z.txt'))).toEqual({ page: 'workspace', id: 'abc', view: 'files', path, open: 'x?y&z.txt' });
  expect(parseRoute('/w/abc/files?path=relative')).toEqual({ page: 'workspace', id: 'abc', view: 'files' });
});
