// Requests to the server: same origin, signed in by its cookie. Every failure is an `ApiError` that
// carries the server's code, its advice and the request id; a token that ran out is refreshed once,
// quietly, and the request repeated.

import type { ErrorDetail } from './types';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly detail: ErrorDetail,
  ) {
    super(detail.message);
  }

  get code(): string {
    return this.detail.code;
  }

  /** The request field at fault, when the server names one. */
  get field(): string | undefined {
    const details = this.detail.details as { field?: unknown } | null | undefined;
    return typeof details?.field === 'string' ? details.field : undefined;
  }
}

/** A request that is not answered by then has failed; what takes longer is followed by other means. */
const REQUEST_MS_MAX = 30_000;

export interface Outgoing {
  method: string;
  path: string;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is, instead of `json`. */
  bytes?: Blob;
  accept?: string;
  headers?: Record<string, string>;
  /** Ends the request; without it the request ends by itself after a while. */
  signal?: AbortSignal;
  /** How long that while is, of what is known to take longer than usual. */
  patienceMs?: number;
}

function failure(status: number, code: string, message: string, requestId = ''): ApiError {
  return new ApiError(status, { code, message, request_id: requestId, details: {} });
}

async function send({ method, path, json, bytes, accept, headers, signal, patienceMs = REQUEST_MS_MAX }: Outgoing): Promise<Response> {
  const type = bytes ? 'application/octet-stream' : json === undefined ? undefined : 'application/json';
  try {
    return await fetch(path, {
      method,
      credentials: 'same-origin',
      headers: { accept: accept ?? 'application/json', ...(type ? { 'content-type': type } : {}), ...headers },
      body: bytes ?? (json === undefined ? null : JSON.stringify(json)),
      signal: signal ?? AbortSignal.timeout(patienceMs),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const slow = error instanceof DOMException && error.name === 'TimeoutError';
    throw slow
      ? failure(0, 'no_answer', 'The server took too long to answer. Try again in a moment.')
      : failure(0, 'offline', 'The server cannot be reached. Check the connection; Rexec tries again by itself.');
  }
}

async function read(response: Response): Promise<unknown> {
  const text = await response.text();
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    const id = response.headers.get('x-request-id') ?? '';
    const message = `Something between here and the server answered ${response.status} with a page that is not JSON.`;
    throw failure(response.status, 'not_json', message, id);
  }
}

function asError(response: Response, body: unknown): ApiError {
  const detail = (body as { error?: ErrorDetail } | undefined)?.error;
  if (detail?.code) return new ApiError(response.status, detail);
  return failure(response.status, `http_${response.status}`, 'The server refused without saying why.');
}

let refreshing: Promise<boolean> | undefined;

/** Renews the sign-in token by its login session; false when that has ended too. */
export function refresh(): Promise<boolean> {
  refreshing ??= send({ method: 'POST', path: '/api/auth/refresh' })
    .then((response) => response.ok)
    .catch(() => false)
    .finally(() => (refreshing = undefined));
  return refreshing;
}

/** An answer that is no failure, its body still to be read. */
export async function request(outgoing: Outgoing): Promise<Response> {
  let response = await send(outgoing);
  if (response.ok) return response;
  let error = asError(response, await read(response));
  if (response.status === 401 && error.code === 'token_expired' && (await refresh())) {
    response = await send(outgoing);
    if (response.ok) return response;
    error = asError(response, await read(response));
  }
  throw error;
}

export async function call<T>(method: string, path: string, json?: unknown, patienceMs?: number): Promise<T> {
  return (await read(await request({ method, path, json, ...(patienceMs ? { patienceMs } : {}) }))) as T;
}

export interface Page<T> {
  items: T[];
  next?: string | null;
}

/** Pages read at most; beyond 100 of them a list is not for the eye. */
const PAGES_MAX = 100;

export async function all<T>(path: string): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query: string = cursor ? `?cursor=${encodeURIComponent(cursor)}` : '';
    const answer: Page<T> = await call('GET', path + query);
    items.push(...answer.items);
    if (!answer.next) break;
    cursor = answer.next;
  }
  return items;
}
