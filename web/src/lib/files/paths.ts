// Paths of a workspace, as text. They are absolute and use `/`.

/** Of a workspace; a joined machine says where its own is. */
export const HOME = '/home/user';

export function join(folder: string, name: string): string {
  return folder === '/' ? `/${name}` : `${folder}/${name}`;
}

export function parent(path: string): string {
  const at = path.lastIndexOf('/');
  return at <= 0 ? '/' : path.slice(0, at);
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Without `.`, `..`, and slashes that say nothing. */
export function normal(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

/** What a person means who types a name, or a path, while in a folder. `~` is the home. */
export function resolve(folder: string, typed: string, home = HOME): string {
  if (typed === '~' || typed.startsWith('~/')) return normal(home + typed.slice(1));
  return normal(typed.startsWith('/') ? typed : join(folder, typed));
}

export interface Crumb {
  label: string;
  path: string;
}

/** From the root, or from the home, down to the folder itself. */
export function crumbs(path: string, home = HOME): Crumb[] {
  const atHome = path === home || path.startsWith(`${home}/`);
  const start: Crumb = atHome ? { label: '~', path: home } : { label: '/', path: '/' };
  const rest = path.slice(atHome ? home.length : 0).split('/').filter((part) => part !== '');
  let at = start.path;
  return [start, ...rest.map((label) => ({ label, path: (at = join(at, label)) }))];
}

/** Why a typed name cannot be one, or nothing. */
export function nameFault(name: string): string | undefined {
  if (name.trim() === '' || name.endsWith('/')) return 'A name is needed.';
  if (name.includes('\0')) return 'A name cannot hold a NUL.';
  const tooLong = name.split('/').some((part) => new TextEncoder().encode(part).length > NAME_BYTES_MAX);
  return tooLong ? `A name has ${NAME_BYTES_MAX} bytes at most.` : undefined;
}

/** What Linux's file systems take. */
const NAME_BYTES_MAX = 255;
