// One attachment of the page to one terminal, over as many WebSockets as it takes.
//
//   connecting --attached--> live --cut--> reconnecting --attached--> live
//        |                    |                 |
//        +--------------------+-----------------+--> ended | refused | signed_out
//
// Invariants: bytes reach the emulator in stream order, each once (`received` is where the next
// frame must begin, anything else is a fault and the connection is made anew); the emulator is
// resized only at a size message's place in the stream; input leaves in the order typed, once.
// Drawing, fonts and the DOM belong to `screen.ts`.

import { Acknowledger } from './acknowledger';
import { retryDelayMs } from './backoff';
import {
  ackFrame,
  binaryInputFrames,
  CLOSE_ENDED,
  CLOSE_FORBIDDEN,
  CLOSE_SIGN_IN,
  inputFrames,
  KIND_INPUT,
  parseServerFrame,
  resizeFrame,
  SUBPROTOCOL,
  visibilityFrame,
  type ServerControl,
} from './frames';
import { InputQueue } from './input-queue';

export type Phase = 'connecting' | 'live' | 'reconnecting' | 'ended' | 'refused' | 'signed_out';

/** What the server says of a terminal whose WebSocket will not open. */
export type Verdict = 'retry' | 'ended' | 'refused' | 'signed_out';

/** The emulator, as far as the stream is concerned. Both calls keep their order. */
export interface Emulator {
  /** Draws the bytes, then calls back. */
  write(bytes: Uint8Array, drawn: () => void): void;
  resize(cols: number, rows: number): void;
}

export interface ClientEvents {
  phase?(phase: Phase): void;
  /** The program ended, and its last output is drawn. */
  exit?(code: number): void;
  title?(title: string): void;
  viewers?(count: number, controller: boolean): void;
  /** Whether the terminal has the size of this window. */
  fits?(fits: boolean): void;
  /** Something that the user should read: an error message of the server, or refused input. */
  notice?(code: string, message: string): void;
}

export interface ClientOptions {
  /** Address of the terminal's WebSocket, without a query. */
  url: string;
  clientId: string;
  mode: 'control' | 'view';
  emulator: Emulator;
  events: ClientEvents;
  /** Asked after repeated failures, because a refused upgrade tells a page nothing. */
  probe(): Promise<Verdict>;
  openSocket?(url: string, protocol: string): WebSocket;
}

/** A connection that is not attached by then is given up. */
const ATTACH_MS_MAX = 10_000;
/** Input unanswered for so long, with nothing else arriving, means a dead line. Doubles each time. */
const STALL_MS = 5_000;
const STALL_MS_MAX = 60_000;
/** Attempts that fail before the server is asked by other means. */
const PROBE_AFTER = 2;
/**
 * Bytes handed to the emulator and not yet drawn. A page in the background draws slowly while its
 * terminal runs on; beyond this it lets go, draws what it has, and comes back by snapshot.
 */
export const UNDRAWN_BYTES_MAX = 24 * 1024 * 1024;

/** What close codes mean; any other is a cut. */
const VERDICTS: Record<number, 'signed_out' | 'refused' | 'ended' | undefined> = {
  [CLOSE_SIGN_IN]: 'signed_out',
  [CLOSE_FORBIDDEN]: 'refused',
  [CLOSE_ENDED]: 'ended',
};

interface Size {
  cols: number;
  rows: number;
}

export class TerminalClient {
  #phase: Phase = 'connecting';
  #socket: WebSocket | undefined;
  #attached = false;
  /** Why the server would not attach us, told just before it closes. */
  #refusal: { code: string; message: string } | undefined;
  #attempt = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #deadline: ReturnType<typeof setTimeout> | undefined;

  /** End of the bytes received; undefined asks for a snapshot. */
  #received: number | undefined;
  #drawn = 0;
  #undrawnBytes = 0;
  #overloaded = false;
  /** Until this is drawn, the emulator repeats the past, and its answers are not for the program. */
  #replayEnd = 0;
  readonly #acks = new Acknowledger((offset) => this.#sendAck(offset));

  #controller = false;
  #hidden = false;
  /** What fits the window, what the terminal has, and what was last asked for. */
  #wanted: Size | undefined;
  #size: Size | undefined;
  #asked: Size | undefined;

  readonly #input = new InputQueue();
  /** The guest has said where it stands, so input may flow. */
  #inputOpen = false;
  #stallMs = STALL_MS;
  #stall: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: ClientOptions) {}

  get phase(): Phase {
    return this.#phase;
  }

  get controller(): boolean {
    return this.#controller;
  }

  /** Offset up to which everything is drawn; for tests and diagnosis. */
  get drawn(): number {
    return this.#drawn;
  }

  connect(): void {
    if (this.#over() || this.#socket) return;
    clearTimeout(this.#retry);
    const query = new URLSearchParams({ mode: this.options.mode, client: this.options.clientId });
    if (this.#received !== undefined) query.set('offset', String(this.#received));
    const open = this.options.openSocket ?? ((url, protocol) => new WebSocket(url, protocol));
    const socket = open(`${this.options.url}?${query}`, SUBPROTOCOL);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#attached = false;
    this.#refusal = undefined;
    socket.onmessage = (event) => this.#socket === socket && this.#message(event.data);
    socket.onclose = (event) => this.#socket === socket && this.#closed(event.code);
    this.#deadline = setTimeout(() => this.#drop(), ATTACH_MS_MAX);
  }

  /** The network is back, or the user asks: do not wait for the next attempt. */
  reconnectNow(): void {
    this.#attempt = 0;
    if (this.#overloaded) return;
    if (this.#attached) this.#drop();
    if (!this.#socket) this.connect();
  }

  /** Lets go for good. The terminal itself lives on. */
  dispose(): void {
    this.#finish('ended', false);
  }

  /** What the user typed or pasted. */
  type(text: string): void {
    this.#push(inputFrames(text));
  }

  /** Raw bytes, one per character. */
  typeBinary(text: string): void {
    this.#push(binaryInputFrames(text));
  }

  /** What the emulator answers to a program's query: only the controller's counts, and only live. */
  answer(text: string): void {
    if (!this.#controller || !this.#attached || this.#drawn < this.#replayEnd) return;
    this.#push(inputFrames(text));
  }

  /** What fits the window now. */
  fit(cols: number, rows: number): void {
    this.#wanted = { cols, rows };
    this.#compareSizes();
    if (this.#controller) this.#askForSize();
  }

  setHidden(hidden: boolean): void {
    if (hidden === this.#hidden) return;
    this.#hidden = hidden;
    if (this.#attached) this.#socket?.send(visibilityFrame(hidden));
    if (!hidden && this.#phase === 'reconnecting') this.reconnectNow();
  }

  /** Makes this page the one that sizes the terminal: input does, even of no bytes. */
  takeControl(): void {
    if (this.#inputOpen) this.#socket?.send(new Uint8Array([KIND_INPUT]));
  }

  #over(): boolean {
    return this.#phase === 'ended' || this.#phase === 'refused' || this.#phase === 'signed_out';
  }

  #setPhase(phase: Phase): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.options.events.phase?.(phase);
  }

  #message(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return this.#fault('not a binary frame');
    try {
      const frame = parseServerFrame(data);
      switch (frame.kind) {
        case 'output':
          return this.#output(frame.offset, frame.bytes);
        case 'snapshot':
          return this.#snapshot(frame.offset, frame.bytes);
        case 'accepted':
          return this.#accepted(frame.total);
        case 'control':
          return this.#control(frame.control);
        case 'exit':
          return this.#exited(frame.code);
      }
    } catch (error) {
      this.#fault(String(error));
    }
  }

  #output(offset: number, bytes: Uint8Array): void {
    if (offset !== this.#received) {
      // Never draw past a gap: the next attachment begins with a whole screen.
      this.#received = undefined;
      return this.#fault(`output begins at ${offset}`);
    }
    const end = offset + bytes.length;
    this.#received = end;
    // Split where the replay ends, so that the first live query is already answered.
    const past = this.#replayEnd - offset;
    if (past > 0 && past < bytes.length) {
      this.#write(bytes.subarray(0, past), this.#replayEnd);
      this.#write(bytes.subarray(past), end);
    } else {
      this.#write(bytes, end);
    }
  }

  #snapshot(offset: number, bytes: Uint8Array): void {
    this.#received = offset;
    this.#write(bytes, offset);
  }

  #write(bytes: Uint8Array, end: number): void {
    this.#undrawnBytes += bytes.length;
    this.options.emulator.write(bytes, () => {
      this.#undrawnBytes -= bytes.length;
      this.#drawn = end;
      if (this.#attached) this.#acks.drawn(end);
      if (this.#overloaded && this.#undrawnBytes === 0) this.#recover();
    });
    if (this.#undrawnBytes > UNDRAWN_BYTES_MAX) this.#overload();
  }

  #overload(): void {
    this.#overloaded = true;
    this.#received = undefined;
    this.#drop();
  }

  #recover(): void {
    this.#overloaded = false;
    this.connect();
  }

  #accepted(total: number): void {
    if (this.#inputOpen) {
      this.#input.accept(total);
      this.#stallMs = STALL_MS;
    } else {
      this.#inputOpen = true;
      this.#input.resume(total);
    }
    this.#sendInput();
    if (!this.#input.unanswered) this.#clearStall();
  }

  #control(control: ServerControl): void {
    switch (control.type) {
      case 'attached':
        return this.#attach(control);
      case 'size':
        return this.#resized(control);
      case 'viewers':
        return this.#viewers(control.count, control.controller);
      case 'title':
        return this.options.events.title?.(control.title);
      case 'error':
        return this.#told(control);
      case 'status':
        return; // The page polls its workspace; newer kinds than these are not for us either.
    }
  }

  #attach(control: Extract<ServerControl, { type: 'attached' }>): void {
    clearTimeout(this.#deadline);
    this.#attached = true;
    this.#attempt = 0;
    this.#replayEnd = control.end;
    this.#asked = undefined;
    this.#resized(control);
    this.#acks.restart(this.#received ?? 0);
    this.#setPhase('live');
    if (this.#hidden) this.#socket?.send(visibilityFrame(true));
    this.#viewers(1, control.controller);
  }

  #resized({ cols, rows }: Size): void {
    this.#size = { cols, rows };
    this.options.emulator.resize(cols, rows);
    this.#compareSizes();
  }

  #compareSizes(): void {
    if (this.#wanted && this.#size) this.options.events.fits?.(sameSize(this.#wanted, this.#size));
  }

  #told({ code, message }: { code: string; message: string }): void {
    if (code === 'offset_ahead') this.#received = undefined;
    // A refusal matters only if the server means it; otherwise the next attempt may do better.
    if (this.#attached) this.options.events.notice?.(code, message);
    else this.#refusal = { code, message };
  }

  #viewers(count: number, controller: boolean): void {
    this.#controller = controller;
    this.options.events.viewers?.(count, controller);
    if (controller) this.#askForSize();
    else this.#asked = undefined;
  }

  #askForSize(): void {
    const wanted = this.#wanted;
    if (!wanted || !this.#attached || this.#hidden || this.options.mode === 'view') return;
    if (sameSize(wanted, this.#asked ?? this.#size)) return;
    this.#asked = wanted;
    this.#socket?.send(resizeFrame(wanted.cols, wanted.rows));
  }

  #push(frames: Uint8Array<ArrayBuffer>[]): void {
    if (this.#over() || this.options.mode === 'view') return;
    if (!this.#input.push(frames)) {
      const message = 'The terminal has not taken what was typed before. Wait, then paste a smaller piece.';
      return this.options.events.notice?.('input_full', message);
    }
    this.#sendInput();
  }

  #sendInput(): void {
    const socket = this.#socket;
    if (!this.#inputOpen || !socket) return;
    const frames = this.#input.takeUnsent();
    if (frames.length === 0) return;
    for (const frame of frames) socket.send(frame);
    // Input makes this attachment the controller, whose window then sets the size.
    this.#askForSize();
    this.#stall ??= setTimeout(() => this.#stalled(), this.#stallMs);
  }

  #stalled(): void {
    this.#stall = undefined;
    this.#stallMs = Math.min(STALL_MS_MAX, this.#stallMs * 2);
    if (this.#attached && this.#input.unanswered) this.#drop();
  }

  #clearStall(): void {
    clearTimeout(this.#stall);
    this.#stall = undefined;
  }

  #sendAck(offset: number): void {
    if (this.#attached) this.#socket?.send(ackFrame(offset));
  }

  #exited(code: number): void {
    this.options.emulator.write(new Uint8Array(0), () => this.options.events.exit?.(code));
    this.#finish('ended', true);
  }

  #fault(reason: string): void {
    console.warn(`rexec: terminal stream at fault, connecting anew: ${reason}`);
    this.#drop();
  }

  /** Ends this connection and goes on as after any cut. */
  #drop(): void {
    const socket = this.#socket;
    if (!socket) return;
    this.#detach();
    socket.close();
    this.#retryLater();
  }

  #closed(code: number): void {
    this.#detach();
    const refusal = this.#refusal;
    const verdict = refusal?.code === 'offset_ahead' ? undefined : VERDICTS[code];
    if (verdict === undefined) return this.#retryLater();
    if (refusal && verdict !== 'signed_out') this.options.events.notice?.(refusal.code, refusal.message);
    this.#finish(verdict, true);
  }

  #detach(): void {
    this.#socket = undefined;
    this.#attached = false;
    this.#inputOpen = false;
    this.#controller = false;
    this.#clearStall();
    this.#acks.stop();
    clearTimeout(this.#deadline);
  }

  #retryLater(): void {
    if (this.#phase === 'live') this.#setPhase('reconnecting');
    if (this.#overloaded) return;
    const attempt = this.#attempt;
    this.#attempt += 1;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#tryAgain(attempt), retryDelayMs(attempt, Math.random()));
  }

  async #tryAgain(attempt: number): Promise<void> {
    if (attempt < PROBE_AFTER) return this.connect();
    const verdict = await this.options.probe();
    if (verdict === 'retry') this.connect();
    else if (!this.#attached) this.#finish(verdict, true);
  }

  #finish(phase: 'ended' | 'refused' | 'signed_out', tell: boolean): void {
    const socket = this.#socket;
    this.#detach();
    clearTimeout(this.#retry);
    socket?.close();
    if (tell) this.#setPhase(phase);
    else this.#phase = phase;
  }
}

function sameSize(a: Size, b: Size | undefined): boolean {
  return a.cols === b?.cols && a.rows === b.rows;
}
