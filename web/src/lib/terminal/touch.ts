// Scrolling by finger, which xterm.js 6 lacks. A drag moves the scrollback; where a program takes the
// whole screen or the mouse, it becomes wheel events, which the emulator turns into what the program
// expects. Letting go in motion glides on.

import type { Terminal } from '@xterm/xterm';

/** Movement before a touch counts as a drag and not as a tap. */
const SLOP_PX = 8;
/** Share of speed that remains after each frame of gliding. */
const FRICTION = 0.95;
/** Speed, in pixels per frame, at which gliding ends. */
const SPEED_MIN = 0.4;

export function enableTouchScroll(host: HTMLElement, term: Terminal): () => void {
  /** Pixels moved that do not yet make a line. */
  let rest = 0;
  let lastY = 0;
  let speed = 0;
  let dragging = false;
  let glide = 0;

  const wheel = (lines: number, at: Touch | undefined): void => {
    const target = term.element?.querySelector('.xterm-screen');
    const { clientX = 0, clientY = 0 } = at ?? {};
    const line = { deltaMode: WheelEvent.DOM_DELTA_LINE, deltaY: Math.sign(lines), clientX, clientY };
    for (let n = Math.abs(lines); n > 0; n -= 1) {
      target?.dispatchEvent(new WheelEvent('wheel', { ...line, bubbles: true, cancelable: true }));
    }
  };
  const scroll = (pixels: number, at: Touch | undefined): void => {
    rest += pixels;
    const lines = Math.trunc(rest / (host.clientHeight / term.rows));
    if (lines === 0) return;
    rest -= lines * (host.clientHeight / term.rows);
    const programs = term.buffer.active.type === 'alternate' || term.modes.mouseTrackingMode !== 'none';
    if (programs) wheel(lines, at);
    else term.scrollLines(lines);
  };
  const glideOn = (): void => {
    speed *= FRICTION;
    if (Math.abs(speed) < SPEED_MIN) return;
    scroll(speed, undefined);
    glide = requestAnimationFrame(glideOn);
  };
  const start = (event: TouchEvent): void => {
    cancelAnimationFrame(glide);
    lastY = event.touches[0]?.clientY ?? 0;
    speed = 0;
    rest = 0;
    dragging = false;
  };
  const move = (event: TouchEvent): void => {
    const touch = event.touches[0];
    if (!touch || event.touches.length > 1) return;
    const delta = lastY - touch.clientY;
    if (!dragging && Math.abs(delta) < SLOP_PX) return;
    dragging = true;
    event.preventDefault();
    lastY = touch.clientY;
    speed = delta;
    scroll(delta, touch);
  };
  const end = (event: TouchEvent): void => {
    if (!dragging) return;
    event.preventDefault();
    glide = requestAnimationFrame(glideOn);
  };

  host.addEventListener('touchstart', start, { passive: true });
  host.addEventListener('touchmove', move, { passive: false });
  host.addEventListener('touchend', end, { passive: false });
  return () => {
    cancelAnimationFrame(glide);
    host.removeEventListener('touchstart', start);
    host.removeEventListener('touchmove', move);
    host.removeEventListener('touchend', end);
  };
}
