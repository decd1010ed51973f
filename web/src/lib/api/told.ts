// What the page says of a refusal where the field at fault stands: the server's words, its names of fields replaced
// by those on the page.

import { ApiError } from './request';

const LABELS: Record<string, string> = {
  name: 'The name',
  image: 'The image',
  git_url: 'The repository',
  branch: 'The branch',
  cpu: 'Cores',
  memory_mb: 'Memory',
  pids: 'Processes',
  disk_gb: 'Disk',
  server: 'The registry',
  username: 'The user name',
  password: 'The password',
};

export function inWords(message: string): string {
  return message.replaceAll(/`(\w+)`/g, (quoted, name: string) => LABELS[name] ?? quoted).replaceAll('`', '');
}

/** A failure in one line, with the code by which it can be looked up. */
export function told(error: unknown): string {
  return error instanceof ApiError ? `${inWords(error.message)} (${error.code})` : String(error);
}
