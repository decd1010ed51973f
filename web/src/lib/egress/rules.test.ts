import { expect, test } from 'vitest';
import type { EgressView } from '../api/types';
import { ruleFor, settingsOf, settingsOfNew, withoutLent, withoutRule, withRule, withSecret } from './rules';

test('a rule names the ports that it has to', () => {
  const rule = (how: string, host: string, port: number): string => ruleFor({ how, host, port });
  expect([rule('connect', 'a.example', 443), rule('http', 'a.example', 80)]).toEqual(['a.example', 'a.example']);
  expect(rule('socks', 'db.example', 5432)).toBe('db.example:5432');
  expect(rule('dns', 'a.example', 53)).toBe('a.example');
  expect([rule('connect', '2001:db8::1', 443), rule('connect', '2001:db8::1', 22)]).toEqual(['2001:db8::1', '[2001:db8::1]:22']);
});

test('a rule comes once and goes alone, and nothing else is asked for', () => {
  const view = { preset: 'locked', allow: ['a.example'], deny: ['b.example'], lent: [{ rule: 'l.example', until: '2026-01-01T00:00:00Z' }], secrets: ['KEY'], models: true, models_offered: true, github: { repositories: ['acme/app'] }, github_offered: true, version: 3 } as EgressView;
  const before = settingsOf(view);
  expect(withRule(before, 'allow', 'a.example')).toBe(before);
  const more = withRule(before, 'deny', 'c.example');
  expect(more).toEqual({ preset: 'locked', allow: ['a.example'], deny: ['b.example', 'c.example'], lent: view.lent, secrets: ['KEY'], models: true, github: { repositories: ['acme/app'] } });
  expect(settingsOf({ preset: 'open', allow: [], deny: [], lent: [] } as unknown as EgressView).github).toBeNull();
  expect(withSecret(more, 'TOKEN', true).secrets).toEqual(['KEY', 'TOKEN']);
  expect(withSecret(more, 'KEY', false).secrets).toEqual([]);
  expect(withoutLent(more, 'l.example')).toEqual({ ...more, lent: [] });
  expect(withoutRule(more, 'deny', 'b.example').deny).toEqual(['c.example']);
});

test('a new workspace is as the server has it until something is said', () => {
  const none = { reach: undefined, secrets: [], models: false };
  expect(settingsOfNew(none)).toBeUndefined();
  expect(settingsOfNew({ ...none, reach: 'open' })).toEqual({ preset: 'open' });
  expect(settingsOfNew({ ...none, secrets: ['KEY'] })).toEqual({ preset: 'balanced', secrets: ['KEY'] });
  expect(settingsOfNew({ reach: 'locked', secrets: [], models: true })).toEqual({ preset: 'locked', models: true });
});
