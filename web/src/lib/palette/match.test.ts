import { expect, test } from 'vitest';
import { match, runs } from './match';

const best = (query: string, texts: string[]): string[] =>
  texts
    .flatMap((text) => {
      const found = match(query, text);
      return found ? [{ text, score: found.score }] : [];
    })
    .sort((a, b) => b.score - a.score)
    .map(({ text }) => text);

test('letters must come in order, in any case', () => {
  expect(match('aap', 'Atlas-API')).toBeDefined();
  expect(match('pa', 'abc')).toBeUndefined();
  expect(match('', 'anything')?.at).toEqual([]);
});

test('beginnings of words and whole words come first', () => {
  expect(best('api', ['happiness', 'capital', 'atlas-api', 'api'])).toEqual(['api', 'atlas-api', 'capital', 'happiness']);
  expect(best('atlas files', ['atlas-api: Files', 'atlas-api', 'Files'])).toEqual(['atlas-api: Files']);
});

test('what matched is shown', () => {
  const text = 'Stop atlas';
  expect(runs(text, match('atl', text)?.at ?? [])).toEqual([
    { text: 'Stop ', hit: false }, { text: 'atl', hit: true }, { text: 'as', hit: false },
  ]);
});
