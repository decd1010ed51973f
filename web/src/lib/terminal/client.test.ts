// The client against a guest in miniature: a real output log with a ring, real input accounts, and
// connections that break wherever the test likes. Frames cross as bytes, as they do on the wire.

import xterm from '@xterm/headless';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { TerminalClient, UNDRAWN_BYTES_MAX, type ClientEvents, type Emulator, type Phase, type Verdict } from './client';
import { CLOSE_ENDED, CLOSE_FORBIDDEN, CLOSE_SIGN_IN } from './frames';

const utf8 = new TextEncoder();
const RING_BYTES = 64;

function u64(value: number): number[] {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return [...bytes];
}

class Wire {
  binaryType = '';
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  readonly sent: number[][] = [];
  open = true;
  constructor(
    readonly url: URL,
    private readonly guest: Guest | undefined,
  ) {}
  send(frame: Uint8Array): void {
    if (!this.open) return;
    this.sent.push([...frame]);
    this.guest?.receive(this, frame);
  }
  close(): void {
    this.open = false;
  }
  /** The network or the server ends the connection. */
  cut(code = 1006): void {
    if (!this.open) return;
    this.open = false;
    this.onclose?.({ code });
  }
  deliver(kind: number, bytes: Iterable<number>): void {
    if (this.open) this.onmessage?.({ data: new Uint8Array([kind, ...bytes]).buffer });
  }
  json(value: unknown): void {
    this.deliver(3, utf8.encode(JSON.stringify(value)));
  }
}

class Guest {
  log: number[] = [];
  typed: number[] = [];
  wires: Wire[] = [];
  accepted = 0;
  size = { cols: 80, rows: 24 };
  /** Frames of input that the connection loses before the guest sees them. */
  deaf = false;

  connect = (address: string): WebSocket => {
    const wire = new Wire(new URL(address), this);
    this.wires.push(wire);
    queueMicrotask(() => this.attach(wire));
    return wire as unknown as WebSocket;
  };

  get wire(): Wire {
    const wire = this.wires.at(-1);
    if (!wire) throw new Error('nobody is connected');
    return wire;
  }

  attach(wire: Wire): void {
    wire.json({ type: 'attached', end: this.log.length, ...this.size, controller: true });
    wire.deliver(4, u64(this.accepted));
    const asked = wire.url.searchParams.get('offset');
    const from = asked === null ? -1 : Number(asked);
    if (from < Math.max(0, this.log.length - RING_BYTES)) {
      wire.deliver(1, [...u64(this.log.length), 0x18, 0x1b, 0x63, ...this.log]);
    } else if (from < this.log.length) {
      wire.deliver(0, [...u64(from), ...this.log.slice(from)]);
    }
  }

  print(text: string): void {
    const bytes = [...utf8.encode(text)];
    const offset = this.log.length;
    this.log.push(...bytes);
    this.wire.deliver(0, [...u64(offset), ...bytes]);
  }

  receive(wire: Wire, frame: Uint8Array): void {
    if (frame[0] !== 0 || this.deaf) return;
    this.typed.push(...frame.subarray(1));
    this.accepted += frame.length - 1;
    wire.deliver(4, u64(this.accepted));
  }

  get typedText(): string {
    return new TextDecoder().decode(new Uint8Array(this.typed));
  }
}

/** Draws at once into text; CAN RIS at a snapshot's head clears, as in an emulator. */
class Paper implements Emulator {
  text = '';
  sizes: string[] = [];
  held: (() => void)[] | undefined;
  write(bytes: Uint8Array, drawn: () => void): void {
    const act = (): void => {
      const text = new TextDecoder().decode(bytes);
      this.text = text.startsWith('\x18\x1bc') ? text.slice(3) : this.text + text;
      drawn();
    };
    if (this.held) this.held.push(act);
    else act();
  }
  resize(cols: number, rows: number): void {
    this.sizes.push(`${cols}x${rows}`);
  }
}

function start(guest: Guest, events: ClientEvents = {}, emulator: Emulator = new Paper(), verdict: Verdict = 'retry') {
  const client = new TerminalClient({
    url: 'ws://host/ws',
    clientId: 'c',
    mode: 'control',
    emulator,
    events,
    probe: () => Promise.resolve(verdict),
    openSocket: guest.connect,
  });
  client.connect();
  return client;
}

/** A busy machine draws late. */
const PATIENCE = { timeout: 20_000 };
const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe('the stream', () => {
  test('begins with a snapshot and resumes where it was cut', async () => {
    const guest = new Guest();
    guest.log.push(...utf8.encode('before '));
    const paper = new Paper();
    const phases: Phase[] = [];
    start(guest, { phase: (phase) => phases.push(phase) }, paper);
    await settle();
    expect(guest.wire.url.search).toBe('?mode=control&client=c');
    guest.print('one ');
    guest.wire.cut();
    guest.log.push(...utf8.encode('two '));
    await settle(100);
    expect(guest.wire.url.searchParams.get('offset')).toBe('11');
    guest.print('three');
    expect(paper.text).toBe('before one two three');
    expect(phases).toEqual(['live', 'reconnecting', 'live']);
  });

  test('loses and doubles nothing over 500 cuts at random', async () => {
    const guest = new Guest();
    const paper = new Paper();
    const client = start(guest, {}, paper);
    await settle();
    let random = 7;
    const next = (bound: number): number => (random = (random * 48271) % 2147483647) % bound;
    let typed = '';
    for (let round = 0; round < 500; round += 1) {
      for (let n = next(5); n > 0; n -= 1) guest.print(`<${round}.${n}>`);
      guest.deaf = next(3) === 0;
      for (let n = next(4); n > 0; n -= 1) {
        client.type(`k${round};`);
        typed += `k${round};`;
      }
      if (next(2) === 0 || guest.deaf) {
        guest.wire.cut();
        guest.deaf = false;
        guest.log.push(...utf8.encode('~'.repeat(next(RING_BYTES * 2))));
        await settle(100);
      }
    }
    await settle(1_000);
    expect(paper.text).toBe(new TextDecoder().decode(new Uint8Array(guest.log)));
    expect(guest.typedText).toBe(typed);
    expect(client.drawn).toBe(guest.log.length);
  });

  test('a gap is never drawn: the next connection asks for a whole screen', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const guest = new Guest();
    const paper = new Paper();
    start(guest, {}, paper);
    await settle();
    guest.print('abc');
    guest.log.push(...utf8.encode('lost'));
    guest.print('def');
    expect(paper.text).toBe('abc');
    await settle(100);
    expect(guest.wire.url.searchParams.has('offset')).toBe(false);
    expect(paper.text).toBe('abclostdef');
  });

  test('a page that cannot keep up lets go and comes back with a snapshot', async () => {
    const guest = new Guest();
    const paper = new Paper();
    start(guest, {}, paper);
    await settle();
    paper.held = [];
    const bulk = new Uint8Array(UNDRAWN_BYTES_MAX + 9);
    guest.wire.onmessage?.({ data: new Uint8Array([0, ...u64(0)]).buffer });
    guest.wire.onmessage?.({ data: concat([0, ...u64(0)], bulk) });
    expect(guest.wire.open).toBe(false);
    await settle(60_000);
    expect(guest.wires).toHaveLength(1);
    const held = paper.held;
    paper.held = undefined;
    for (const draw of held) draw();
    await settle();
    expect(guest.wires).toHaveLength(2);
    expect(guest.wire.url.searchParams.has('offset')).toBe(false);
  });

  test('sizes change in order with what is drawn', async () => {
    const { Terminal } = xterm;
    vi.useRealTimers();
    const term = new Terminal({ allowProposedApi: true, cols: 80, rows: 24 });
    const guest = new Guest();
    const emulator: Emulator = {
      write: (bytes, drawn) => term.write(bytes, drawn),
      resize: (cols, rows) => term.write('', () => term.resize(cols, rows)),
    };
    const client = start(guest, {}, emulator);
    await vi.waitFor(() => expect(client.phase).toBe('live'), PATIENCE);
    guest.print('\x1b[1;70Hwide');
    guest.wire.json({ type: 'size', offset: guest.log.length, cols: 20, rows: 5 });
    guest.print('\x1b[1;70Hedge');
    await vi.waitFor(() => expect(client.drawn).toBe(guest.log.length), PATIENCE);
    expect([term.cols, term.rows]).toEqual([20, 5]);
    // At the new size, column 70 is the last one.
    expect(term.buffer.active.getLine(term.buffer.active.baseY)?.translateToString(true)).toHaveLength(20);
    client.dispose();
  });
});

function concat(head: number[], tail: Uint8Array): ArrayBuffer {
  const whole = new Uint8Array(head.length + tail.length);
  whole.set(head);
  whole.set(tail, head.length);
  return whole.buffer;
}

describe('answers of the emulator', () => {
  test('wait until the past is drawn, to the byte', async () => {
    const guest = new Guest();
    guest.log.push(...utf8.encode('0123456789'));
    const paper = new Paper();
    paper.held = [];
    const client = start(guest, {}, paper);
    await settle();
    client.answer('early');
    for (const draw of paper.held.splice(0)) draw();
    client.answer('\x1b[1;1R');
    expect(guest.typedText).toBe('\x1b[1;1R');
  });

  test('come from the controller only', async () => {
    const guest = new Guest();
    const client = start(guest);
    await settle();
    guest.wire.json({ type: 'viewers', count: 2, controller: false });
    client.answer('\x1b[0n');
    client.type('me');
    expect(guest.typedText).toBe('me');
  });
});

describe('the size', () => {
  const resizes = (guest: Guest): number[][] => guest.wire.sent.filter((frame) => frame[0] === 1);

  test('is asked for by the controller, once', async () => {
    const guest = new Guest();
    const client = start(guest);
    client.fit(100, 30);
    await settle();
    client.fit(100, 30);
    expect(resizes(guest)).toEqual([[1, 0, 100, 0, 30]]);
    client.fit(101, 30);
    expect(resizes(guest)).toHaveLength(2);
  });

  test('follows the one who types', async () => {
    const guest = new Guest();
    const client = start(guest);
    await settle();
    guest.wire.json({ type: 'viewers', count: 2, controller: false });
    client.fit(50, 20);
    expect(resizes(guest)).toEqual([]);
    client.type('x');
    expect(resizes(guest)).toEqual([[1, 0, 50, 0, 20]]);
  });

  test('a hidden page says so and asks for nothing', async () => {
    const guest = new Guest();
    const client = start(guest);
    client.setHidden(true);
    client.fit(50, 20);
    await settle();
    expect(resizes(guest)).toEqual([]);
    expect(guest.wire.sent.map((frame) => frame[0])).toEqual([3]);
  });
});

describe('a connection that ends', () => {
  test.each([
    [CLOSE_SIGN_IN, 'signed_out'],
    [CLOSE_FORBIDDEN, 'refused'],
    [CLOSE_ENDED, 'ended'],
  ])('with %i is %s and stays so', async (code, phase) => {
    const guest = new Guest();
    const client = start(guest);
    await settle();
    guest.wire.cut(code);
    await settle(60_000);
    expect(client.phase).toBe(phase);
    expect(guest.wires).toHaveLength(1);
  });

  test('tells the exit code after the last output', async () => {
    const guest = new Guest();
    const paper = new Paper();
    const seen: string[] = [];
    const client = start(guest, { exit: (code) => seen.push(`${paper.text} ${code}`) }, paper);
    await settle();
    guest.print('bye');
    guest.wire.deliver(2, [0, 0, 0, 3]);
    expect(seen).toEqual(['bye 3']);
    expect(client.phase).toBe('ended');
  });

  test('tells a refusal that is meant, and keeps quiet about one that passes', async () => {
    const guest = new Guest();
    const attach = guest.attach;
    const heard: string[] = [];
    const refuse = (error: string, code: number) => (wire: Wire) => {
      wire.json({ type: 'error', code: error, message: 'no' });
      wire.cut(code);
    };
    guest.attach = refuse('workspace_unreachable', 1012);
    const client = start(guest, { notice: (code) => heard.push(code) });
    await settle();
    guest.attach = attach;
    await settle(100);
    expect([client.phase, heard]).toEqual(['live', []]);
    guest.print('abc');
    guest.wire.cut();
    guest.attach = refuse('offset_ahead', CLOSE_ENDED);
    await settle(100);
    guest.attach = attach;
    await settle(5_000);
    expect([client.phase, guest.wire.url.searchParams.has('offset')]).toEqual(['live', false]);
    guest.wire.cut();
    guest.attach = refuse('terminal_gone', CLOSE_ENDED);
    await settle(5_000);
    expect([client.phase, heard]).toEqual(['ended', ['terminal_gone']]);
  });

  test('asks what became of a terminal that does not open', async () => {
    const guest = new Guest();
    guest.attach = (wire) => wire.cut();
    const client = start(guest, {}, new Paper(), 'ended');
    await settle(10_000);
    expect(client.phase).toBe('ended');
    expect(guest.wires.length).toBeLessThan(6);
  });

  test('is replaced at once when the network returns', async () => {
    const guest = new Guest();
    const client = start(guest);
    await settle();
    const attach = guest.attach;
    guest.attach = (wire) => wire.cut();
    guest.wire.cut();
    await settle(30_000);
    guest.attach = attach;
    client.reconnectNow();
    await settle();
    expect(client.phase).toBe('live');
  });

  test('a dead line is noticed by unanswered input, and nothing of it is lost', async () => {
    const guest = new Guest();
    const client = start(guest);
    await settle();
    guest.deaf = true;
    client.type('ls\n');
    await settle(4_000);
    guest.deaf = false;
    await settle(2_000);
    expect(guest.wires).toHaveLength(2);
    expect(guest.typedText).toBe('ls\n');
  });
});
