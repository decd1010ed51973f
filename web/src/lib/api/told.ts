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
  hostname: 'The address',
  socket: 'The socket',
  region: 'The region',
  host: 'The server',
  ssh: 'SSH',
  host_key: 'The host key',
  docker_port: 'The port',
  tls_ca: 'The CA',
  tls_cert: 'the certificate',
  tls_key: 'the key',
  tls_ca_path: 'The CA',
  tls_cert_path: 'the certificate',
  tls_key_path: 'the key',
  labels: 'Labels',
  runtimes: 'Runtimes',
  total_cpu: 'Cores',
  total_memory_mb: 'Memory',
  total_disk_gb: 'Disk',
  max_workspaces: 'Workspaces',
  egress: 'What it may reach',
  'egress.github': '“GitHub”',
  allow: '“Allowed”',
  deny: '“Denied”',
};

export function inWords(message: string): string {
  return message.replaceAll(/`([\w.]+)`/g, (quoted, name: string) => LABELS[name] ?? quoted).replaceAll('`', '');
}

/** A failure in one line, with the code by which it can be looked up. */
export function told(error: unknown): string {
  return error instanceof ApiError ? `${inWords(error.message)} (${error.code})` : String(error);
}
