import { expect, test } from 'vitest';
import type { EgressPreset } from '../api/types';
import { afterRule, standingOf, withoutLog, withoutRules } from './standing';

test('what is not in force says so, and what brings it', () => {
  const standing = standingOf({ state: 'next_start', network: 'open' }, 'running');
  expect([standing.tone, standing.restart]).toEqual(['busy', true]);
  expect(standing.text).toContain('still reaches the whole public internet');
  expect(standingOf({ state: 'next_start', network: 'closed' }, 'paused').text).toContain('still on the closed network');
  expect(standingOf({ state: 'pending', network: 'closed' }, 'running').restart).toBe(false);
});

test('one that does not run has it from its start on', () => {
  expect(standingOf({ state: 'in_force', network: 'closed' }, 'stopped')).toMatchObject({ tone: 'off', restart: false });
  expect(standingOf({ state: 'in_force', network: 'closed' }, 'running').tone).toBe('good');
});

test('a rule says when it holds', () => {
  expect(afterRule({ state: 'in_force' }, 'running')).toContain('try again');
  expect(afterRule({ state: 'in_force' }, 'stopped')).toContain('starts');
  expect(afterRule({ state: 'next_start' }, 'running')).toContain('restarted');
  expect(afterRule({ state: 'pending' }, 'running')).toContain('in a moment');
});

test('what is empty says why', () => {
  expect(withoutLog({ state: 'in_force', network: 'open' }, false)).toContain('begins with Balanced or Locked');
  expect(withoutLog({ state: 'next_start', network: 'open' }, true)).toContain('is restarted');
  expect(withoutLog({ state: 'in_force', network: 'closed' }, true)).toContain('Nothing was refused');
  const said = (kind: 'allow' | 'deny', preset: EgressPreset): string => withoutRules(kind, { preset, github: null });
  expect(new Set([said('allow', 'locked'), said('allow', 'balanced'), said('allow', 'open'), said('deny', 'open')]).size).toBe(4);
  expect(withoutRules('allow', { preset: 'locked', github: { repositories: ['acme/app'] } })).toContain('its repositories at GitHub');
});
