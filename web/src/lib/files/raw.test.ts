import { expect, test } from 'vitest';
import { filesAddress, parseRoute } from '../state/route';
import { asField, fromBase64, isRaw, toBase64 } from './raw';

test('any bytes are a path, and the same bytes again', () => {
  for (const bytes of [[0x2f, 0x63, 0xe9], [0xff, 0xfe], [0xc3, 0xa9], [0xf0, 0x9f, 0x98, 0x80, 0xf0, 0x9f], [0xed, 0xb2, 0x80], [0xef, 0xbb, 0xbf]]) {
    const base64 = toBase64(bytes.map((byte) => String.fromCharCode(byte < 0x80 ? byte : 0xdc00 + byte)).join(''));
    expect(toBase64(fromBase64(base64))).toBe(base64);
  }
  expect(fromBase64('L2NhZsOp')).toBe('/café');
  expect(fromBase64('L2NhZuk')).toBe('/caf\uDCE9');
  expect([isRaw('/café 😀'), isRaw('/caf\uDCE9')]).toEqual([false, true]);
});

test('an address carries them', () => {
  expect(asField('path', '/caf\uDCE9')).toEqual({ path_b64: 'L2NhZuk' });
  const address = filesAddress('w1', '/home/\uDCFF', 'caf\uDCE9');
  expect(parseRoute(address)).toEqual({ page: 'workspace', id: 'w1', view: 'files', path: '/home/\uDCFF', open: 'caf\uDCE9' });
  expect(parseRoute('/w/w1/files?path_b64=*')).toEqual({ page: 'workspace', id: 'w1', view: 'files' });
});
