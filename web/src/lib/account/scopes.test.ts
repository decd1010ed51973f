import { expect, test } from 'vitest';
import { inWords, isImplied, isOffered, kindOf, SCOPES, toggled } from './scopes';

test('a choice is made and taken back', () => {
  expect(toggled([], 'exec')).toEqual(['exec']);
  expect(toggled(['exec', 'files'], 'exec')).toEqual(['files']);
});

test('who may manage workspaces may see them', () => {
  expect(toggled(['workspaces:read', 'exec'], 'workspaces:write')).toEqual(['exec', 'workspaces:write']);
  expect(isImplied('workspaces:read', ['workspaces:write'])).toBe(true);
  expect(isImplied('workspaces:write', ['workspaces:read'])).toBe(false);
});

test('a limit to some workspaces leaves out what reaches beyond', () => {
  const offered = (who: { admin: boolean; limited: boolean }): string[] => SCOPES.map(({ scope }) => scope).filter((scope) => isOffered(scope, who));
  expect(offered({ admin: true, limited: false })).toHaveLength(9);
  expect(offered({ admin: false, limited: false })).not.toContain('admin');
  expect(offered({ admin: true, limited: true })).not.toContain('account');
  expect(offered({ admin: true, limited: true })).not.toContain('admin');
});

test('scopes and keys are told in words', () => {
  expect(inWords(['all'])).toBe('Everything');
  expect(inWords(['files', 'exec'])).toBe('Run commands, Files');
  expect(inWords(['workspaces:read', 'workspaces:write'])).toBe('Manage workspaces');
  expect(kindOf('ssh-ed25519')).toBe('Ed25519');
  expect(kindOf('ssh-future')).toBe('ssh-future');
});
