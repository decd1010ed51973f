// How terminals look: colours tuned to the page's titanium, and the font whose metrics they share.

import type { ITheme } from '@xterm/xterm';

export const FONT_NAME = 'JetBrains Mono Variable';
export const FONT_FAMILY = `'${FONT_NAME}', ui-monospace, 'Cascadia Mono', Menlo, Consolas, monospace`;
export const LINE_HEIGHT = 1.12;
/** Below this width a smaller font keeps 45 columns and more on a phone. */
export const NARROW_PX = 640;
export const FONT_PX = 13.5;
export const FONT_PX_NARROW = 12;

export const theme: ITheme = {
  background: '#0c0d13',
  foreground: '#dcdde6',
  cursor: '#b39bff',
  cursorAccent: '#0c0d13',
  selectionBackground: '#6d4df066',
  selectionInactiveBackground: '#6d4df03d',
  black: '#23252f',
  red: '#ff6b81',
  green: '#5fe0a2',
  yellow: '#f3c969',
  blue: '#7aa8ff',
  magenta: '#c79bff',
  cyan: '#63d8e6',
  white: '#d5d7e2',
  brightBlack: '#676b7e',
  brightRed: '#ff8fa0',
  brightGreen: '#86f0bd',
  brightYellow: '#ffdd8c',
  brightBlue: '#a2c3ff',
  brightMagenta: '#dcbfff',
  brightCyan: '#92ebf5',
  brightWhite: '#ffffff',
  scrollbarSliderBackground: '#ffffff1a',
  scrollbarSliderHoverBackground: '#ffffff30',
  scrollbarSliderActiveBackground: '#a78bfa80',
};

export const searchColours = {
  matchBackground: '#4b3a8f',
  matchBorder: '#00000000',
  matchOverviewRuler: '#8b6cff',
  activeMatchBackground: '#a9812b',
  activeMatchBorder: '#f3c969',
  activeMatchColorOverviewRuler: '#f3c969',
};
