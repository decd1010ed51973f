// The calls that read and change the files of a workspace.

import type { ExtractFormat } from '../files/archives';
import { baseName } from '../files/paths';
import { asField, fromBase64 } from '../files/raw';
import { workspacePath } from './client';
import { call, request } from './request';
import type { ExtractSummary, FileInfo, UploadState } from './types';

/** Entries of a folder that the page asks for, the most that the server tells at once. */
export const ENTRIES_MAX = 10_000;

export type ArchiveFormat = 'zip' | 'tar.zst';

/** A part of an upload: whose it is, where it begins, and how long the whole will be. */
export interface Piece {
  upload: string;
  offset: number;
  total: number;
  bytes: Blob;
}

export interface Opened {
  etag: string;
  size: number;
  /** Absent when there are too many. */
  bytes: ArrayBuffer | undefined;
}

function address(workspace: string, route: string, { path, ...query }: { path: string } & Record<string, string>): string {
  return `${workspacePath(workspace)}/files${route}?${new URLSearchParams({ ...asField('path', path), ...query })}`;
}

/** As the page has names and paths, see `raw.ts`. */
function spoken(info: FileInfo): FileInfo {
  if (!info.path_b64) return info;
  const path = fromBase64(info.path_b64);
  return { ...info, path, name: baseName(path) };
}

const etagOf = (response: Response): string => (response.headers.get('etag') ?? '').replaceAll('"', '');

const json = async <T>(response: Promise<Response>): Promise<T> => (await (await response).json()) as T;

export const files = {
  list: (workspace: string, path: string, signal?: AbortSignal) =>
    json<{ items: FileInfo[]; next?: string | null }>(
      request({
        method: 'GET',
        path: address(workspace, '/list', { path, limit: String(ENTRIES_MAX) }),
        ...(signal ? { signal } : {}),
      }),
    ).then(({ items, next }) => ({ items: items.map(spoken), next })),
  stat: (workspace: string, path: string) => call<FileInfo>('GET', address(workspace, '/stat', { path })).then(spoken),
  /** Whether a path, or what a link leads to, is a folder. */
  isFolder: (workspace: string, path: string) =>
    call('GET', address(workspace, '/list', { path, limit: '1' })).then(
      () => true,
      () => false,
    ),
  mkdir: (workspace: string, path: string) => call<FileInfo>('POST', `${workspacePath(workspace)}/files/mkdir`, asField('path', path)).then(spoken),
  move: (workspace: string, from: string, to: string) =>
    call<FileInfo>('POST', `${workspacePath(workspace)}/files/move`, { ...asField('from', from), ...asField('to', to), overwrite: false }).then(spoken),
  remove: (workspace: string, path: string) =>
    call<void>('DELETE', address(workspace, '', { path, recursive: 'true' })),

  /** A whole file, in memory: for what the page shows. Of one that is larger, only the size. */
  async read(workspace: string, path: string, bytesMax: (name: string) => number, signal: AbortSignal): Promise<Opened> {
    const response = await request({ method: 'GET', path: address(workspace, '', { path }), accept: '*/*', signal });
    const size = Number(response.headers.get('content-length') ?? '0');
    const etag = etagOf(response);
    if (size <= bytesMax(path)) return { etag, size, bytes: await response.arrayBuffer() };
    await response.body?.cancel();
    return { etag, size, bytes: undefined };
  },

  /** A file's content as it comes. */
  async stream(workspace: string, path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const response = await request({ method: 'GET', path: address(workspace, '', { path }), accept: '*/*', signal });
    return response.body ?? new Blob([]).stream();
  },

  /** Into a folder, which is made if need be; files of the same names are replaced. */
  extract: (workspace: string, into: string, format: ExtractFormat, bytes: Blob, signal: AbortSignal) =>
    json<ExtractSummary>(request({ method: 'POST', path: address(workspace, '/extract', { path: into, format }), bytes, signal })),

  /** The etag of a file as it is now. */
  async etag(workspace: string, path: string): Promise<string> {
    const response = await request({ method: 'HEAD', path: address(workspace, '', { path }), accept: '*/*' });
    return etagOf(response);
  },

  /** With an etag, only while the file is as it says; refused with `file_changed` otherwise. */
  write: (workspace: string, path: string, bytes: Blob, { etag, signal }: { etag?: string; signal?: AbortSignal } = {}) =>
    json<FileInfo>(
      request({
        method: 'PUT',
        path: address(workspace, '', { path }),
        bytes,
        ...(etag ? { headers: { 'if-match': `"${etag}"` } } : {}),
        ...(signal ? { signal } : {}),
      }),
    ).then(spoken),

  /** The answer tells whether the file is whole, or where the next piece begins. */
  async writePiece(workspace: string, path: string, piece: Piece, signal: AbortSignal): Promise<UploadState> {
    const { upload, offset, total, bytes } = piece;
    const query = { path, upload, offset: String(offset), total: String(total) };
    const response = await request({ method: 'PUT', path: address(workspace, '', query), bytes, signal });
    if (response.status === 202) return (await response.json()) as UploadState;
    return { done: true, offset: total };
  },

  uploadState: (workspace: string, path: string, upload: string) =>
    call<UploadState>('GET', address(workspace, '/upload', { path, upload })),
  dropUpload: (workspace: string, path: string, upload: string) =>
    call<void>('DELETE', address(workspace, '/upload', { path, upload })),
};

export const downloadAddress = (workspace: string, path: string): string => address(workspace, '', { path });
export const archiveAddress = (workspace: string, path: string, format: ArchiveFormat): string =>
  address(workspace, '/archive', { path, format });
export const watchAddress = (workspace: string, path: string): string => address(workspace, '/watch', { path });
