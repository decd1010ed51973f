// Paths that are not UTF-8. In the page each byte that is no part of a character stands as a lone
// surrogate, U+DC80 to U+DCFF, so that such a path is taken apart and put together like any other; addresses
// and requests carry it as base64 of its bytes.

const ESCAPE = 0xdc00;
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const ESCAPED = /(?<![\uD800-\uDBFF])[\uDC80-\uDCFF]/;

/** Whether it has bytes that are no text. */
export const isRaw = (path: string): boolean => ESCAPED.test(path);

/** The path whose bytes these are. */
export function fromBase64(base64: string): string {
  const bytes = Uint8Array.from(atob(base64.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  let path = '';
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at] ?? 0;
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    try {
      path += strict.decode(bytes.subarray(at, at + length));
      at += length;
    } catch {
      path += String.fromCharCode(ESCAPE + lead);
      at += 1;
    }
  }
  return path;
}

/** The path's bytes, of the alphabet that an address can carry. */
export function toBase64(path: string): string {
  let bytes = '';
  for (const character of path) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) bytes += String.fromCharCode(code - ESCAPE);
    else for (const byte of new TextEncoder().encode(character)) bytes += String.fromCharCode(byte);
  }
  return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** A path as a field of a request or an address. */
export function asField(name: string, path: string): Record<string, string> {
  return isRaw(path) ? { [`${name}_b64`]: toBase64(path) } : { [name]: path };
}

/** The path that a field of an address gives. */
export function ofField(query: URLSearchParams, name: string): string | null {
  const base64 = query.get(`${name}_b64`);
  if (base64 === null) return query.get(name);
  try {
    return fromBase64(base64);
  } catch {
    return null;
  }
}
