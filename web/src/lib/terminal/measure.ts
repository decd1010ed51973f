// The size that a new terminal should begin with, before anything of it is drawn.

import { fontPx } from './screen';
import { FONT_FAMILY, LINE_HEIGHT } from './theme';

const SAMPLE = 'W'.repeat(32);
/** The emulator keeps this much free at the right for its scroll bar. */
const SCROLLBAR_PX = 14;

export interface Cells {
  cols: number;
  rows: number;
}

/** Cells that fit into the given pixels; 80 x 24 where nothing can be measured. */
export function cellsIn(width: number, height: number): Cells {
  const context = document.createElement('canvas').getContext('2d');
  if (!context || width <= 0 || height <= 0) return { cols: 80, rows: 24 };
  context.font = `${fontPx()}px ${FONT_FAMILY}`;
  const metrics = context.measureText(SAMPLE);
  const cellWidth = metrics.width / SAMPLE.length;
  const cellHeight = Math.ceil(metrics.fontBoundingBoxAscent + metrics.fontBoundingBoxDescent) * LINE_HEIGHT;
  const cols = Math.floor((width - SCROLLBAR_PX) / cellWidth);
  const rows = Math.floor(height / cellHeight);
  return { cols: clamp(cols, 2, 1000), rows: clamp(rows, 1, 500) };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
