// The server's own machine has two names, localhost and 127.0.0.1, which a browser takes for two sites: who is signed in
// at one is not at the other. Only a visit tells where, so the way into a preview, whose name lies below localhost
// whatever the page's is, tries the other name once before it asks for the sign-in.

const NAMES: Record<string, string> = { localhost: '127.0.0.1', '127.0.0.1': 'localhost' };
/** Says in an address at which name nobody was signed in; both, once both were tried. */
const TRIED = 'tried';

/** The same address under the other name, if it has one. */
export function underOtherName(address: string): URL | undefined {
  const url = new URL(address);
  const other = NAMES[url.hostname];
  if (!other || url.protocol !== 'http:') return undefined;
  url.hostname = other;
  return url;
}

/** Where a visitor goes on who is not signed in here; nothing where the sign-in is to be asked for. */
export function elsewhere(address: string): string | undefined {
  const url = new URL(address);
  const other = underOtherName(address);
  const tried = url.searchParams.get(TRIED);
  if (!other || url.pathname !== '/open-preview' || tried === 'both') return undefined;
  other.searchParams.set(TRIED, tried === null ? url.hostname : 'both');
  return other.href;
}
