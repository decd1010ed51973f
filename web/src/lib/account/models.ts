// Language models as the account sees them: what is offered, what of the day's budget is left, and what was used.

import type { ModelsView, ModelUse } from '../api/types';
import { count, type Tone } from '../format';

const DAY_MS = 24 * 60 * 60 * 1000;
/** What the operator writes for all of them. */
const EVERY = '*';

export function offersAny({ openai, anthropic }: ModelsView): boolean {
  return openai || anthropic;
}

/** Whose APIs are answered, and the variable by which programs find each. */
export function apisOf({ openai, anthropic }: ModelsView): { name: string; variable: string }[] {
  return [
    ...(openai ? [{ name: 'OpenAI', variable: 'OPENAI_BASE_URL' }] : []),
    ...(anthropic ? [{ name: 'Anthropic', variable: 'ANTHROPIC_BASE_URL' }] : []),
  ];
}

/** Names, and beginnings of names; none if all may be asked. */
export function patternsOf({ models }: Pick<ModelsView, 'models'>): string[] {
  const patterns = models.split(',').filter((pattern) => pattern !== '');
  return patterns.includes(EVERY) ? [] : patterns;
}

export interface Spent {
  /** Of the day's budget, 1 at most; absent where there is none. */
  share?: number;
  tone: Tone;
  text: string;
}

/** From this share on a budget is about to end. */
const NEARLY = 0.8;

export function spentOf({ used_today, tokens_per_day }: Pick<ModelsView, 'used_today' | 'tokens_per_day'>): Spent {
  if (tokens_per_day == null) return { tone: 'calm', text: `${count(used_today)} tokens` };
  const share = Math.min(used_today / tokens_per_day, 1);
  return { share, tone: share >= 1 ? 'bad' : share >= NEARLY ? 'busy' : 'calm', text: `${count(used_today)} of ${count(tokens_per_day)} tokens` };
}

export interface Day {
  day: string;
  label: string;
  /** Read and written together, as budgets count them. */
  tokens: number;
  uses: ModelUse[];
}

/** The newest first, as they come. */
export function daysOf(used: readonly ModelUse[], nowMs: number): Day[] {
  const days: Day[] = [];
  for (const use of used) {
    let last = days.at(-1);
    if (last?.day !== use.day) days.push((last = { day: use.day, label: dayTold(use.day, nowMs), tokens: 0, uses: [] }));
    last.tokens += use.input + use.output;
    last.uses.push(use);
  }
  return days;
}

/** Days are those of UTC, wherever one looks from. */
function dayTold(day: string, nowMs: number): string {
  const at = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
  if (day === at(nowMs)) return 'Today';
  if (day === at(nowMs - DAY_MS)) return 'Yesterday';
  return new Date(`${day}T00:00:00Z`).toLocaleDateString('en-GB', { day: 'numeric', month: 'long', timeZone: 'UTC' });
}

/** Why a figure is not exact; empty if it is. */
export function estimateTold({ estimated, requests }: Pick<ModelUse, 'estimated' | 'requests'>): string {
  if (estimated === 0) return '';
  const of = estimated === requests ? (requests === 1 ? 'It is' : 'All are') : `${estimated.toLocaleString('en')} of ${requests.toLocaleString('en')} are`;
  return `${of} estimated: the vendor did not tell the tokens.`;
}
