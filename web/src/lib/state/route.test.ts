import { expect, test } from 'vitest';
import { parseRoute } from './route';

test('paths name pages', () => {
  expect(parseRoute('/')).toEqual({ page: 'dashboard' });
  expect(parseRoute('/w/1/2')).toEqual({ page: 'workspace', id: '1', terminal: '2' });
  expect(parseRoute('/w/1')).toEqual({ page: 'workspace', id: '1', terminal: undefined });
  expect(parseRoute('/w/')).toEqual({ page: 'dashboard' });
  expect(parseRoute('/%E0%A4%A')).toEqual({ page: 'dashboard' });
});
