import { expect, test } from 'vitest';
import type { EgressEntry } from '../api/types';
import { continued, cureOf, refreshed, refusedOf, whereTold, whyTold } from './log';

const entry = (at: string, host: string, more: Partial<EgressEntry> = {}): EgressEntry => ({
  at: `2026-01-01T00:${at}Z`, how: 'connect', host, port: 443, allowed: false, why: 'egress_not_allowed', count: 1, bytes_up: 0, bytes_down: 0, ...more,
});

test('older pages stay when the newest is read again, and an entry that has grown moves up', () => {
  const kept = { entries: [entry('04:10', 'd'), entry('03:10', 'c'), entry('02:10', 'b'), entry('01:10', 'a')], next: 'older' };
  const grown = entry('04:20', 'd', { count: 2 });
  const fresh = { entries: [entry('05:00', 'e'), grown, entry('03:10', 'c')], next: 'page' };
  expect(refreshed(kept, fresh)).toEqual({ entries: [...fresh.entries, ...kept.entries.slice(2)], next: 'older' });
});

test('where there would be a gap, the log begins anew', () => {
  const kept = { entries: [entry('01:00', 'a')], next: undefined };
  const fresh = { entries: [entry('09:00', 'c'), entry('08:00', 'b')], next: 'page' };
  expect(refreshed(kept, fresh)).toBe(fresh);
  expect(refreshed(kept, { entries: [], next: undefined }).entries).toEqual([]);
});

test('the next page follows, what is known of it left out', () => {
  const kept = { entries: [entry('02:00', 'b')], next: 'page' };
  const page = { entries: [entry('02:00', 'b'), entry('01:00', 'a')], next: undefined };
  expect(continued(kept, page)).toEqual({ entries: [entry('02:00', 'b'), entry('01:00', 'a')], next: undefined });
});

test('what was refused is told apart at once', () => {
  const kept = { entries: [entry('02:00', 'b', { allowed: true, why: 'b' }), entry('01:00', 'a')], next: 'page' };
  expect(refusedOf(kept)).toEqual({ entries: [entry('01:00', 'a')], next: 'page' });
});

test('what a rule would have let through is offered as one, and nothing else', () => {
  const at = entry('00:00', 'a.example', { port: 8443 });
  expect(cureOf(at, { allow: [], lent: [] })).toEqual({ rule: 'a.example:8443', done: false });
  expect(cureOf(at, { allow: ['a.example:8443'], lent: [] })?.done).toBe(true);
  for (const why of ['egress_denied_by_rule', 'egress_closed_range', 'egress_unreachable']) expect(cureOf({ ...at, why }, { allow: [], lent: [] })).toBeUndefined();
  expect(cureOf({ ...at, allowed: true, why: '*' }, { allow: [], lent: [] })).toBeUndefined();
});

test('it is told in words, also by a newer server', () => {
  expect(whyTold(entry('00:00', 'a'))).toBe('no rule allows it');
  expect(whyTold(entry('00:00', 'a', { why: 'egress_too_loud' }))).toBe('too loud');
  expect(whyTold(entry('00:00', 'a', { allowed: true, why: '*.example' }))).toBe('by *.example');
  expect(whyTold(entry('00:00', 'github.com', { how: 'https', why: 'egress_github_refused' }))).toContain('not what it may do at GitHub');
  expect(whyTold(entry('00:00', 'github.com', { how: 'https', why: 'egress_github_unavailable' }))).toContain('no token of GitHub');
  expect([whereTold(entry('00:00', 'a.b')), whereTold(entry('00:00', '::1')), whereTold(entry('00:00', 'a.b', { how: 'dns' }))]).toEqual(['a.b:443', '[::1]:443', 'a.b']);
});

test('of a model it is told which, and not which port', () => {
  const asked = (more: Partial<EgressEntry>): EgressEntry => entry('00:00', 'llm.rexec.internal', { how: 'model', port: 80, ...more });
  expect(whereTold(asked({}))).toBe('llm.rexec.internal');
  expect([whyTold(asked({ allowed: true, why: 'gpt-5-mini' })), whyTold(asked({ allowed: true, why: 'models' }))]).toEqual(['to ask gpt-5-mini', 'to list the models']);
  expect([whyTold(asked({ why: 'model_budget_spent' })), whyTold(asked({ why: 'model_too_loud' }))]).toEqual(['the budget of tokens is spent', 'too loud']);
  expect(cureOf(asked({ why: 'model_not_let' }), { allow: [], lent: [] })).toBeUndefined();
});
