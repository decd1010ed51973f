// The drawn terminal: xterm.js with its renderer, font, search, links, clipboard and touch. It owns
// the emulator and the element it lives in; what is drawn comes from a `TerminalClient`.
// Invariant: the emulator's size changes only through `resize`, in order with what is written; the
// window's size is only measured and reported (`onFit`).

import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon, type ISearchOptions } from '@xterm/addon-search';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { WebglAddon } from '@xterm/addon-webgl';
import { Terminal } from '@xterm/xterm';
import type { Emulator } from './client';
import { FONT_FAMILY, FONT_NAME, FONT_PX, FONT_PX_NARROW, LINE_HEIGHT, NARROW_PX, searchColours, theme } from './theme';
import { enableTouchScroll } from './touch';
import { UNICODE_VERSION, unicodeProvider } from './unicode';

/** Lines kept above the screen. */
const SCROLLBACK_LINES = 5_000;
/** The terminal opens in a fallback font rather than wait longer than this. */
const FONT_WAIT_MS = 1_500;
/** While a window is dragged, the size is asked for this often at most. */
const FIT_INTERVAL_MS = 60;

export interface ScreenEvents {
  /** Typed, pasted, or reported by the mouse. */
  type(text: string): void;
  typeBinary(text: string): void;
  /** The emulator's own answer to a query of the program. */
  answer(text: string): void;
  /** What fits the window now. */
  fit(cols: number, rows: number): void;
  bell(): void;
  /** A shortcut of the page; true when it was one. */
  shortcut(event: KeyboardEvent): boolean;
  found(index: number, count: number): void;
}

/** Waits until text can be measured in the terminal's font. */
export async function fontsReady(): Promise<void> {
  const fonts = Promise.all([400, 700].map((weight) => document.fonts.load(`${weight} 14px '${FONT_NAME}'`)));
  const patience = new Promise((resolve) => setTimeout(resolve, FONT_WAIT_MS));
  await Promise.race([fonts.catch(() => undefined), patience]);
}

export function fontPx(): number {
  return window.innerWidth < NARROW_PX ? FONT_PX_NARROW : FONT_PX;
}

function openLink(address: string): void {
  if (/^(https?|mailto):/i.test(address)) window.open(address, '_blank', 'noopener,noreferrer');
}

export class Screen implements Emulator {
  readonly term: Terminal;
  readonly #fit = new FitAddon();
  readonly #search = new SearchAddon();
  readonly #cleanups: (() => void)[] = [];
  #fitTimer: ReturnType<typeof setTimeout> | undefined;
  #fittedAt = 0;
  /** Set by the emulator just before `onData` when the data is the user's own. */
  #fromUser = false;

  constructor(
    private readonly host: HTMLElement,
    private readonly events: ScreenEvents,
  ) {
    this.term = new Terminal({
      allowProposedApi: true,
      cursorBlink: true,
      cursorInactiveStyle: 'outline',
      drawBoldTextInBrightColors: false,
      fontFamily: FONT_FAMILY,
      fontSize: fontPx(),
      lineHeight: LINE_HEIGHT,
      linkHandler: { activate: (_, address) => openLink(address) },
      macOptionIsMeta: true,
      rightClickSelectsWord: false,
      scrollback: SCROLLBACK_LINES,
      theme,
    });
    this.term.unicode.register(unicodeProvider);
    this.term.unicode.activeVersion = UNICODE_VERSION;
    this.term.loadAddon(this.#fit);
    this.term.loadAddon(this.#search);
    this.term.loadAddon(new WebLinksAddon((_, address) => openLink(address)));
  }

  /** Draws into the host element; call once the font is there. */
  open(): void {
    this.term.open(this.host);
    this.#useGpu();
    this.#listen();
    const observer = new ResizeObserver(() => this.#fitSoon());
    observer.observe(this.host);
    this.#cleanups.push(() => observer.disconnect(), enableTouchScroll(this.host, this.term));
    this.#reportFit();
  }

  write(bytes: Uint8Array, drawn: () => void): void {
    this.term.write(bytes, drawn);
  }

  resize(cols: number, rows: number): void {
    // Through the write queue: a direct call would overtake bytes that belong to the old size.
    this.term.write('', () => this.term.resize(cols, rows));
  }

  focus(): void {
    this.term.focus();
  }

  dispose(): void {
    clearTimeout(this.#fitTimer);
    for (const cleanup of this.#cleanups) cleanup();
    this.term.dispose();
  }

  /** Finds the next or previous match; an empty text clears the marks. */
  find(text: string, direction: 'next' | 'previous' | 'typing'): void {
    if (text === '') return this.clearSearch();
    const options: ISearchOptions = { decorations: searchColours, incremental: direction === 'typing' };
    if (direction === 'previous') this.#search.findPrevious(text, options);
    else this.#search.findNext(text, options);
  }

  clearSearch(): void {
    this.#search.clearDecorations();
    this.term.clearSelection();
  }

  /** Copies the selection; false when there is none. */
  async copy(): Promise<boolean> {
    const text = this.term.getSelection();
    if (text === '') return false;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure context there is no clipboard API, but the emulator answers this event.
      document.execCommand('copy');
    }
    return true;
  }

  async paste(): Promise<void> {
    this.term.paste(await navigator.clipboard.readText());
  }

  #useGpu(): void {
    try {
      const gpu = new WebglAddon();
      // A lost context falls back to the DOM renderer, which needs nothing.
      gpu.onContextLoss(() => gpu.dispose());
      this.term.loadAddon(gpu);
    } catch {
      this.host.dataset.renderer = 'dom';
    }
  }

  #listen(): void {
    const { term, events } = this;
    onUserInput(term, () => {
      this.#fromUser = true;
    });
    term.onData((text) => {
      const fromUser = this.#fromUser;
      this.#fromUser = false;
      if (fromUser) events.type(text);
      else events.answer(text);
    });
    term.onBinary((text) => {
      this.#fromUser = false;
      events.typeBinary(text);
    });
    term.onBell(() => events.bell());
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) => events.found(resultIndex, resultCount));
    term.attachCustomKeyEventHandler((event) => this.#key(event));
  }

  /** False keeps the key from the program. */
  #key(event: KeyboardEvent): boolean {
    if (event.type !== 'keydown') return true;
    const copies = event.ctrlKey && event.shiftKey && event.code === 'KeyC';
    if (copies) {
      event.preventDefault();
      void this.copy();
      return false;
    }
    // The browser pastes by itself, and the emulator brackets what arrives.
    if (event.ctrlKey && event.shiftKey && event.code === 'KeyV') return false;
    if (this.events.shortcut(event)) {
      event.preventDefault();
      return false;
    }
    return true;
  }

  #fitSoon(): void {
    if (this.#fitTimer !== undefined) return;
    const wait = Math.max(0, this.#fittedAt + FIT_INTERVAL_MS - performance.now());
    this.#fitTimer = setTimeout(() => {
      this.#fitTimer = undefined;
      this.#fittedAt = performance.now();
      const size = fontPx();
      if (this.term.options.fontSize !== size) this.term.options.fontSize = size;
      this.#reportFit();
    }, wait);
  }

  #reportFit(): void {
    // A hidden tab has no size, and must not shrink the terminal to the least possible.
    if (this.host.clientWidth === 0 || this.host.clientHeight === 0) return;
    const fit = this.#fit.proposeDimensions();
    if (fit && Number.isFinite(fit.cols) && Number.isFinite(fit.rows)) this.events.fit(fit.cols, fit.rows);
  }
}

/**
 * The public `onData` mixes what the user typed with what the emulator answers by itself; only the
 * core says which is which. The version is pinned, and a test in the browser holds this.
 */
function onUserInput(term: Terminal, listener: () => void): void {
  const { _core: core } = term as unknown as {
    _core: { coreService: { onUserInput(listener: () => void): void } };
  };
  core.coreService.onUserInput(listener);
}
