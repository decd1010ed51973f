// Secrets, as values: what is typed and shown of their hosts, and which of them a workspace may be given.

import type { SecretView } from '../api/types';

const HTTPS = ':443';

/** Hosts in a line, however they are separated. */
export function hostsIn(line: string): string[] {
  return line.split(/[\s,]+/).filter((host) => host !== '');
}

/** Without the port that nobody writes. */
export function hostsTold(hosts: readonly string[]): string[] {
  return hosts.map((host) => (host.endsWith(HTTPS) ? host.slice(0, -HTTPS.length) : host));
}

export interface Choice {
  name: string;
  hosts: string[];
  given: boolean;
  /** The workspace names it, and there is none. */
  missing: boolean;
}

/** All of the account's, and those that the workspace names besides. */
export function choicesOf(all: readonly SecretView[], given: readonly string[]): Choice[] {
  const own = all.map(({ name, hosts }) => ({ name, hosts, given: given.includes(name), missing: false }));
  const lost = given.filter((name) => !all.some((secret) => secret.name === name));
  return [...own, ...lost.map((name) => ({ name, hosts: [], given: true, missing: true }))];
}
