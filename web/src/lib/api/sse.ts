// Server-sent events (WHATWG HTML, section 9.2), read by `fetch` rather than by `EventSource`: that
// one hears only names that are known beforehand, hides why a stream was refused, and keeps one of
// the few connections that a browser grants a server even while nobody looks.
//
// Invariant: no stream is open while the page is out of sight.

import { retryDelayMs } from '../terminal/backoff';
import { ApiError, request } from './request';

export interface Message {
  event: string;
  data: string;
  id: string | undefined;
}

/** An event longer than this is not ours. */
const CHARS_MAX = 4 * 1024 * 1024;
/** A stream that lasted this long was a good one: after it, the next attempt comes at once. */
const STEADY_MS = 3_000;

/** Cuts a stream of text into events; comments and fields without meaning here are passed over. */
export class Parser {
  #rest = '';

  push(text: string): Message[] {
    this.#rest += text;
    const blocks = this.#rest.split(/\r?\n\r?\n/);
    this.#rest = blocks.pop() ?? '';
    if (this.#rest.length > CHARS_MAX) throw new Error('an event without end');
    return blocks.flatMap((block) => parse(block) ?? []);
  }
}

function parse(block: string): Message | undefined {
  const message: Message = { event: 'message', data: '', id: undefined };
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') message.event = value;
    else if (field === 'id') message.id = value;
  }
  return data.length > 0 ? { ...message, data: data.join('\n') } : undefined;
}

export interface Listener {
  message(message: Message): void;
  /** Whether events come now; with it, when the server said so, in ms since 1970. */
  live?(live: boolean, atMs: number): void;
  /** The server refused; `true` asks it again later. */
  refused(error: ApiError): boolean;
  /** Named as the last one seen when the stream opens. */
  lastId?(): string | undefined;
}

/** Listens until the returned function is called: again after a cut, and only while the page is in sight. */
export function listen(path: string, listener: Listener): () => void {
  let ended = false;
  let attempt = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let open: AbortController | undefined;

  async function run(): Promise<void> {
    const mine = new AbortController();
    open = mine;
    const began = performance.now();
    try {
      await read(path, listener, mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      const final = error instanceof ApiError && error.code !== 'offline' && !listener.refused(error);
      if (final) return stop();
    } finally {
      if (open === mine) open = undefined;
      if (!mine.signal.aborted) listener.live?.(false, 0);
    }
    if (performance.now() - began > STEADY_MS) attempt = 0;
    if (!ended) timer = setTimeout(() => void run(), retryDelayMs(attempt++, Math.random()));
  }

  function look(): void {
    clearTimeout(timer);
    if (document.hidden) {
      open?.abort();
      open = undefined;
      listener.live?.(false, 0);
    } else if (!open) {
      attempt = 0;
      void run();
    }
  }

  function stop(): void {
    ended = true;
    clearTimeout(timer);
    open?.abort();
    document.removeEventListener('visibilitychange', look);
    removeEventListener('online', look);
  }

  document.addEventListener('visibilitychange', look);
  addEventListener('online', look);
  look();
  return stop;
}

async function read(path: string, listener: Listener, signal: AbortSignal): Promise<void> {
  const id = listener.lastId?.();
  const headers: Record<string, string> = id ? { 'last-event-id': id } : {};
  const response = await request({ method: 'GET', path, accept: 'text/event-stream', headers, signal });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new Parser();
  listener.live?.(true, Date.parse(response.headers.get('date') ?? '') || Date.now());
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const message of parser.push(value)) {
      if (message.event === 'error') throw ended(message.data);
      listener.message(message);
    }
  }
}

/** The last event of a stream that the server ended, as the failure that it tells. */
function ended(data: string): ApiError {
  const { error } = JSON.parse(data) as { error: ConstructorParameters<typeof ApiError>[1] };
  return new ApiError(error.code.startsWith('session') || error.code.includes('token') ? 401 : 503, error);
}
