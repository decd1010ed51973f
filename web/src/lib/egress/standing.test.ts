import { expect, test } from 'vitest';
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
  expect(new Set([withoutRules('allow', 'locked'), withoutRules('allow', 'balanced'), withoutRules('allow', 'open'), withoutRules('deny', 'open')]).size).toBe(4);
});
