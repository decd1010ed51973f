// What a path of the address bar means.

export type Route = { page: 'dashboard' } | { page: 'workspace'; id: string; terminal: string | undefined };

/** Anything that is no workspace's path is the dashboard: an old bookmark still leads somewhere. */
export function parseRoute(path: string): Route {
  const [, first, id, terminal] = path.split('/');
  if (first === 'w' && id) return { page: 'workspace', id, terminal: terminal || undefined };
  return { page: 'dashboard' };
}
