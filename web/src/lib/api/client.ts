// The REST calls of the page: same origin, signed in by the server's cookie. Every failure is an
// `ApiError` that carries the server's code, its advice and the request id; a token that ran out is
// refreshed once, quietly, and the request repeated.

import type {
  AuthStatus,
  ErrorDetail,
  NewWorkspace,
  TerminalView,
  UserView,
  WorkspaceAction,
  WorkspaceView,
} from './types';

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

/** A request that is not answered by then has failed; creation itself is followed by polling. */
const REQUEST_MS_MAX = 30_000;

function failure(status: number, code: string, message: string, requestId = ''): ApiError {
  return new ApiError(status, { code, message, request_id: requestId, details: {} });
}

async function send(method: string, path: string, body: unknown): Promise<Response> {
  try {
    return await fetch(path, {
      method,
      credentials: 'same-origin',
      headers: body === undefined ? { accept: 'application/json' } : { accept: 'application/json', 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_MS_MAX),
    });
  } catch (error) {
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
  refreshing ??= send('POST', '/api/auth/refresh', undefined)
    .then((response) => response.ok)
    .catch(() => false)
    .finally(() => (refreshing = undefined));
  return refreshing;
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response = await send(method, path, body);
  let answer = await read(response);
  if (response.status === 401 && asError(response, answer).code === 'token_expired' && (await refresh())) {
    response = await send(method, path, body);
    answer = await read(response);
  }
  if (!response.ok) throw asError(response, answer);
  return answer as T;
}

interface Page<T> {
  items: T[];
  next: string | null;
}

/** Pages read at most; beyond 100 of them a list is not for the eye. */
const PAGES_MAX = 100;

async function all<T>(path: string): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query: string = cursor === null ? '' : `?cursor=${encodeURIComponent(cursor)}`;
    const answer: Page<T> = await call('GET', path + query);
    items.push(...answer.items);
    if (!answer.next) break;
    cursor = answer.next;
  }
  return items;
}

const workspacePath = (id: string): string => `/api/workspaces/${encodeURIComponent(id)}`;
const terminalPath = (id: string, tid: string): string => `${workspacePath(id)}/terminals/${encodeURIComponent(tid)}`;

export const api = {
  authStatus: () => call<AuthStatus>('GET', '/api/auth/status'),
  register: (email: string, password: string, name?: string) =>
    call<{ user: UserView }>('POST', '/api/auth/register', { email, password, ...(name ? { name } : {}) }),
  login: (email: string, password: string) => call<{ user: UserView }>('POST', '/api/auth/login', { email, password }),
  logout: () => call<void>('POST', '/api/auth/logout'),
  me: () => call<UserView>('GET', '/api/me'),

  workspaces: () => all<WorkspaceView>('/api/workspaces'),
  workspace: (id: string) => call<WorkspaceView>('GET', workspacePath(id)),
  createWorkspace: (request: NewWorkspace) => call<WorkspaceView>('POST', '/api/workspaces', request),
  renameWorkspace: (id: string, name: string) => call<WorkspaceView>('PATCH', workspacePath(id), { name }),
  deleteWorkspace: (id: string) => call<void>('DELETE', workspacePath(id)),
  act: (id: string, action: WorkspaceAction) => call<WorkspaceView>('POST', `${workspacePath(id)}/${action}`),

  terminals: (id: string) => all<TerminalView>(`${workspacePath(id)}/terminals`),
  createTerminal: (id: string, cols: number, rows: number) =>
    call<TerminalView>('POST', `${workspacePath(id)}/terminals`, { cols, rows }),
  deleteTerminal: (id: string, tid: string) => call<void>('DELETE', terminalPath(id, tid)),
};

/** The address of a terminal's WebSocket. */
export function terminalSocketUrl(id: string, tid: string): string {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return `${scheme}//${location.host}${terminalPath(id, tid)}/ws`;
}
