// Finds what was meant by a few letters: they must come in order, and count more at the beginnings of
// words and one after the other.

export interface Match {
  score: number;
  /** Places of the letters, in UTF-16 units. */
  at: number[];
}

const BOUNDARY = /[\s\-_./:@]/;

/** Nothing when the letters do not all come in order. Every word of the query counts for itself. */
export function match(query: string, text: string): Match | undefined {
  const lower = text.toLowerCase();
  const total: Match = { score: 0, at: [] };
  for (const word of query.toLowerCase().split(/\s+/).filter((part) => part !== '')) {
    const found = whole(word, lower) ?? scattered(word, lower);
    if (!found) return undefined;
    total.score += found.score;
    total.at.push(...found.at);
  }
  // Of two that fit alike, the shorter one was meant.
  return { score: total.score - text.length / 100, at: [...new Set(total.at)].sort((a, b) => a - b) };
}

function begins(text: string, at: number): boolean {
  return at === 0 || BOUNDARY.test(text[at - 1] ?? '');
}

function whole(word: string, text: string): Match | undefined {
  let best: Match | undefined;
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    const score = word.length * 4 + (begins(text, at) ? 6 : 0) + (at === 0 ? 3 : 0);
    if (!best || score > best.score) best = { score, at: Array.from(word, (_, index) => at + index) };
  }
  return best;
}

function scattered(word: string, text: string): Match | undefined {
  const at: number[] = [];
  let score = 0;
  for (const letter of word) {
    const last = at.at(-1) ?? -1;
    const next = text.indexOf(letter, last + 1);
    if (next < 0) return undefined;
    score += next === last + 1 ? 2 : begins(text, next) ? 2 : 0;
    at.push(next);
  }
  return { score, at };
}

/** Text in runs, those that matched marked, for showing why something was found. */
export function runs(text: string, at: readonly number[]): { text: string; hit: boolean }[] {
  const hits = new Set(at);
  const list: { text: string; hit: boolean }[] = [];
  for (let index = 0; index < text.length; index += 1) {
    const hit = hits.has(index);
    const last = list.at(-1);
    if (last?.hit === hit) last.text += text[index];
    else list.push({ text: text[index] ?? '', hit });
  }
  return list;
}
