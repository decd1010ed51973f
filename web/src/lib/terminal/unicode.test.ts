import xterm from '@xterm/headless';
import { expect, test } from 'vitest';
import { UNICODE_VERSION, unicodeProvider, width } from './unicode';

const { Terminal } = xterm;

async function columnAfter(text: string): Promise<number> {
  const term = new Terminal({ allowProposedApi: true, cols: 40, rows: 3 });
  term.unicode.register(unicodeProvider);
  term.unicode.activeVersion = UNICODE_VERSION;
  await new Promise<void>((drawn) => term.write(text, drawn));
  return term.buffer.active.cursorX;
}

test('widths are the emulator’s in the guest', () => {
  expect(['a', 'é', '日', '🙂', '\u0301', '\u200d', '\ufe0f', '\u00ad', '❤', '│'].map((c) => width(c.codePointAt(0) ?? 0))).toEqual([
    1, 1, 2, 2, 0, 0, 0, 0, 1, 1,
  ]);
});

test('the cursor moves by them, without clustering', async () => {
  expect(await columnAfter('日本')).toBe(4);
  expect(await columnAfter('e\u0301x')).toBe(2);
  expect(await columnAfter('❤\ufe0f')).toBe(1);
  expect(await columnAfter('👩\u200d💻')).toBe(4);
});

test('a zero-width character joins its cell after a cursor movement too', async () => {
  expect(await columnAfter('ab\x1b[D\x1b[C\u0301')).toBe(2);
  expect(await columnAfter('日\x1b[m\u0301\u0302')).toBe(2);
});
