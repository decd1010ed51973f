// Input that the guest has not yet said it took (frame 0x04), so that a cut loses no keystroke and
// types none twice. Invariant: the queue is the input stream from `accepted` on, in order, and holds
// at most INPUT_BYTES_MAX bytes; what would overflow is refused whole, and the caller says so.

import { KIND_INPUT } from './frames';

/** Most bytes typed or pasted ahead of the guest. */
export const INPUT_BYTES_MAX = 1024 * 1024;

type Frame = Uint8Array<ArrayBuffer>;

export class InputQueue {
  /** Frames, kind byte included, of which the first `#sent` went out on some connection. */
  #frames: Frame[] = [];
  #sent = 0;
  #bytes = 0;
  /** Input bytes that the guest has taken from this client, ever. */
  #accepted = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether something went out that the guest has not answered for. */
  get unanswered(): boolean {
    return this.#sent > 0;
  }

  /** Takes all frames or none. */
  push(frames: Frame[]): boolean {
    let bytes = 0;
    for (const frame of frames) bytes += frame.length - 1;
    if (this.#bytes + bytes > INPUT_BYTES_MAX) return false;
    this.#frames.push(...frames);
    this.#bytes += bytes;
    return true;
  }

  /** The frames that no connection has carried yet; they count as sent from now on. */
  takeUnsent(): Frame[] {
    const unsent = this.#frames.slice(this.#sent);
    this.#sent = this.#frames.length;
    return unsent;
  }

  /** The guest has taken `total` input bytes of this client. */
  accept(total: number): void {
    let taken = Math.min(total - this.#accepted, this.#bytes);
    if (taken <= 0) return;
    this.#accepted = total;
    this.#bytes -= taken;
    let whole = 0;
    for (const frame of this.#frames) {
      if (frame.length - 1 > taken) break;
      taken -= frame.length - 1;
      whole += 1;
    }
    this.#frames.splice(0, whole);
    this.#sent = Math.max(0, this.#sent - whole);
    const head = this.#frames[0];
    if (taken > 0 && head) this.#frames[0] = withoutHead(head, taken);
  }

  /**
   * A new connection begins, and the guest stands at `total`. Everything it lacks is unsent again.
   * A guest that has forgotten this client counts from zero: then what was already sent may have
   * been taken, and is dropped, because a command typed twice is worse than one not typed.
   */
  resume(total: number): void {
    if (total < this.#accepted) {
      const dropped = this.#frames.splice(0, this.#sent);
      for (const frame of dropped) this.#bytes -= frame.length - 1;
      this.#accepted = total;
    } else {
      this.accept(total);
    }
    this.#sent = 0;
  }
}

function withoutHead(frame: Frame, bytes: number): Frame {
  const rest = frame.slice(bytes);
  rest[0] = KIND_INPUT;
  return rest;
}
