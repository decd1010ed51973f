import { expect, test } from 'vitest';
import type { ModelsView, ModelUse } from '../api/types';
import { apisOf, daysOf, estimateTold, offersAny, patternsOf, spentOf } from './models';

const view = (more: Partial<ModelsView> = {}): ModelsView => ({
  openai: true, anthropic: false, models: '*', used_today: 0, day_ends_at: '2026-01-03T00:00:00Z', used: [], ...more,
});
const use = (day: string, workspace: string, more: Partial<ModelUse> = {}): ModelUse => ({
  day, workspace_id: `ws_${workspace}`, workspace, model: 'gpt-5', requests: 1, estimated: 0, input: 10, cached: 4, output: 2, ...more,
});

test('what is offered has a name and a variable', () => {
  expect(apisOf(view({ anthropic: true }))).toEqual([{ name: 'OpenAI', variable: 'OPENAI_BASE_URL' }, { name: 'Anthropic', variable: 'ANTHROPIC_BASE_URL' }]);
  expect([offersAny(view()), offersAny(view({ openai: false })), offersAny(view({ openai: false, anthropic: true }))]).toEqual([true, false, true]);
  expect(patternsOf({ models: 'gpt-5*,claude-haiku-4-5' })).toEqual(['gpt-5*', 'claude-haiku-4-5']);
  expect([patternsOf({ models: '*' }), patternsOf({ models: 'gpt-5,*' })]).toEqual([[], []]);
});

test('a budget warns before it ends, and never shows more than all of it', () => {
  expect(spentOf({ used_today: 312_000 })).toEqual({ tone: 'calm', text: '312 k tokens' });
  expect(spentOf({ used_today: 312_000, tokens_per_day: 1_000_000 })).toEqual({ share: 0.312, tone: 'calm', text: '312 k of 1 M tokens' });
  expect(spentOf({ used_today: 800, tokens_per_day: 1000 }).tone).toBe('busy');
  expect(spentOf({ used_today: 1500, tokens_per_day: 1000 })).toMatchObject({ share: 1, tone: 'bad' });
});

test('uses stand below their days, with what a budget counts', () => {
  const now = Date.parse('2026-01-02T23:30:00Z');
  const days = daysOf([use('2026-01-02', 'a'), use('2026-01-02', 'b', { input: 100 }), use('2026-01-01', 'a'), use('2025-12-09', 'a')], now);
  expect(days.map(({ label, tokens, uses }) => [label, tokens, uses.length])).toEqual([['Today', 114, 2], ['Yesterday', 12, 1], ['9 December', 12, 1]]);
  expect(daysOf([], now)).toEqual([]);
});

test('an estimate says so', () => {
  expect(estimateTold({ estimated: 0, requests: 3 })).toBe('');
  expect(estimateTold({ estimated: 2, requests: 14 })).toContain('2 of 14 are estimated');
  expect([estimateTold({ estimated: 1, requests: 1 }), estimateTold({ estimated: 3, requests: 3 })].map((text) => text.split(' estimated')[0])).toEqual(['It is', 'All are']);
});
