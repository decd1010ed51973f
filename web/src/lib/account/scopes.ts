// What a token may do, in words, and how choices of it hang together.

import type { Scope } from '../api/types';

export const SCOPES: { scope: Exclude<Scope, 'all'>; label: string; note: string }[] = [
  { scope: 'workspaces:read', label: 'See workspaces', note: 'Their state, usage and news' },
  { scope: 'workspaces:write', label: 'Manage workspaces', note: 'Create, change, start, stop, delete' },
  { scope: 'terminals', label: 'Terminals', note: 'Open and type into them' },
  { scope: 'exec', label: 'Run commands', note: 'One at a time, with their output' },
  { scope: 'files', label: 'Files', note: 'Read and write' },
  { scope: 'ports', label: 'Ports', note: 'Previews, and who may open them' },
  { scope: 'snapshots', label: 'Snapshots', note: 'Take, export, delete' },
  { scope: 'account', label: 'Account', note: 'Tokens, sign-ins, credentials' },
  { scope: 'admin', label: 'Administer', note: 'What only administrators may' },
];

/** Scopes that reach beyond workspaces, and so cannot go with a limit to some. */
const BEYOND: readonly Scope[] = ['account', 'admin'];

/** Whether a choice is made by another one. */
export function isImplied(scope: Scope, chosen: readonly Scope[]): boolean {
  return scope === 'workspaces:read' && chosen.includes('workspaces:write');
}

export function toggled(chosen: readonly Scope[], scope: Scope): Scope[] {
  const rest = chosen.filter((one) => one !== scope && !isImplied(one, [scope]));
  return chosen.includes(scope) ? rest : [...rest, scope];
}

/** Whether a scope can be chosen by this account, for a token with or without a limit. */
export function isOffered(scope: Scope, { admin, limited }: { admin: boolean; limited: boolean }): boolean {
  return (scope !== 'admin' || admin) && !(limited && BEYOND.includes(scope));
}

/** Such as `Files, Run commands`. */
export function inWords(scopes: readonly Scope[]): string {
  if (scopes.includes('all')) return 'Everything';
  return SCOPES.filter(({ scope }) => scopes.includes(scope) && !isImplied(scope, scopes))
    .map(({ label }) => label)
    .join(', ');
}

/** Days until a token runs out. 0 is never. */
export const LIVES: { days: number; label: string }[] = [
  { days: 7, label: 'in 7 days' },
  { days: 30, label: 'in 30 days' },
  { days: 90, label: 'in 90 days' },
  { days: 365, label: 'in a year' },
  { days: 0, label: 'never' },
];

const KINDS: Record<string, string> = {
  'ssh-ed25519': 'Ed25519',
  'ssh-rsa': 'RSA',
  'ecdsa-sha2-nistp256': 'ECDSA P-256',
  'ecdsa-sha2-nistp384': 'ECDSA P-384',
  'ecdsa-sha2-nistp521': 'ECDSA P-521',
  'sk-ssh-ed25519@openssh.com': 'Security key, Ed25519',
  'sk-ecdsa-sha2-nistp256@openssh.com': 'Security key, ECDSA',
};

/** An SSH key's type as people call it. */
export function kindOf(kind: string): string {
  return KINDS[kind] ?? kind;
}
