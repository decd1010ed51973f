// Keys that a phone's keyboard lacks: what they send, and Ctrl and Alt that stick to the next key.

export type SoftKey = string;

const ARROWS: Record<string, string> = { up: 'A', down: 'B', right: 'C', left: 'D' };

/** The sequence of an arrow key, which depends on the mode that the program chose. */
export function arrow(key: SoftKey, applicationMode: boolean): string | undefined {
  const letter = ARROWS[key];
  if (letter === undefined) return undefined;
  return applicationMode ? `\x1bO${letter}` : `\x1b[${letter}`;
}

export class StickyKeys {
  ctrl = $state(false);
  alt = $state(false);

  /** What was typed, under the modifiers that were held; they let go. */
  apply(text: string): string {
    if (!this.ctrl && !this.alt) return text;
    const withCtrl = this.ctrl && text.length === 1 ? control(text) : text;
    const typed = this.alt ? `\x1b${withCtrl}` : withCtrl;
    this.ctrl = false;
    this.alt = false;
    return typed;
  }
}

/** Ctrl with a key, as terminals have had it since the VT100. */
function control(key: string): string {
  if (key === ' ') return '\0';
  if (key === '?') return '\x7f';
  const code = key.toUpperCase().charCodeAt(0);
  return code >= 0x40 && code <= 0x5f ? String.fromCharCode(code & 0x1f) : key;
}
