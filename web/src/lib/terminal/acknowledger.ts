// Tells the guest what has been drawn, in few frames: at once after ACK_BYTES, else within a frame's
// time. The guest's flow control lives on these, so none may be lost: the last position is always
// sent in the end. Invariant: acknowledged offsets only grow on one connection.

/** Drawn bytes after which an acknowledgement does not wait. */
export const ACK_BYTES = 8 * 1024;
/** The longest an acknowledgement waits: about one screen refresh. */
export const ACK_DELAY_MS = 16;

export class Acknowledger {
  #drawn = 0;
  #sent = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly send: (offset: number) => void) {}

  /** A connection begins at `offset`. */
  restart(offset: number): void {
    this.stop();
    this.#drawn = offset;
    this.#sent = offset;
  }

  drawn(offset: number): void {
    if (offset <= this.#drawn) return;
    this.#drawn = offset;
    if (offset - this.#sent >= ACK_BYTES) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), ACK_DELAY_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #flush(): void {
    this.stop();
    if (this.#drawn === this.#sent) return;
    this.#sent = this.#drawn;
    this.send(this.#drawn);
  }
}
