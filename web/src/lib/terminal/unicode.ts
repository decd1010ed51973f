// Character widths as the guest's emulator has them, so that a screen drawn live and one redrawn
// from the guest's snapshot are the same. No grapheme clustering: a variation selector widens
// nothing, and every zero-width character joins the cell before the cursor.

import type { IUnicodeVersionProvider } from '@xterm/xterm';
import { WIDE, ZERO } from './widths';

/** Where the last range of the tables ends. */
const CODE_POINTS = 0x110000;

type Width = 0 | 1 | 2;

function buildTable(): Uint8Array {
  const table = new Uint8Array(CODE_POINTS).fill(1);
  const fill = (ranges: string, width: Width): void => {
    for (const range of ranges.split(/\s+/)) {
      if (range === '') continue;
      const [first = '', last = first] = range.split('-');
      table.fill(width, parseInt(first, 16), parseInt(last, 16) + 1);
    }
  };
  fill(ZERO, 0);
  fill(WIDE, 2);
  // Controls draw nothing; the emulator acts on them before it asks for a width.
  table.fill(0, 0, 0x20);
  table.fill(0, 0x7f, 0xa0);
  return table;
}

let table: Uint8Array | undefined;

export function width(codepoint: number): Width {
  table ??= buildTable();
  return table[codepoint] as Width;
}

export const UNICODE_VERSION = 'rexec';

export const unicodeProvider: IUnicodeVersionProvider = {
  version: UNICODE_VERSION,
  wcwidth: width,
  /** Packed as xterm.js wants it: bit 0 joins the cell before, bits 1 and 2 are the width. */
  charProperties(codepoint: number, preceding: number): number {
    const own = width(codepoint);
    if (own > 0) return own << 1;
    return (preceding & 0b110) | 1;
  },
};
