// Files on their way into workspaces. Small ones go in one request; larger ones in pieces, and after
// a cut, a reload of the page included, the same file chosen again goes on where it was. Each is
// written whole or not at all. The queue outlives the view that filled it, but not the page.

import { files } from '../api/files';
import { ApiError } from '../api/request';
import { join } from '../files/paths';
import { FIRST_BYTES, nextPiece } from '../files/pieces';
import type { Selection } from '../files/picked';
import { retryDelayMs } from '../terminal/backoff';
import { randomUuid } from '../terminal/client-id';
import { session } from './session.svelte';
import { toasts } from './toasts.svelte';

/** Files sent at once. */
const SENDING_MAX = 3;
/** Attempts in a row that bring nothing before an upload is told as failed. */
const ATTEMPTS_MAX = 8;

export type UploadPhase = 'waiting' | 'sending' | 'done' | 'failed' | 'cancelled';

export class Upload {
  phase = $state<UploadPhase>('waiting');
  sent = $state(0);
  error = $state.raw<ApiError>();
  readonly stop = new AbortController();

  constructor(
    readonly id: number,
    readonly workspace: string,
    readonly path: string,
    readonly name: string,
    readonly file: File,
  ) {}

  get size(): number {
    return this.file.size;
  }
}

/** The name under which this file's pieces are known, remembered until it is whole. */
function uploadId({ workspace, path, file }: Upload): { id: string; forget: () => void } {
  const key = `rexec.upload ${workspace} ${path} ${file.size} ${file.lastModified}`;
  try {
    const id = localStorage.getItem(key) ?? randomUuid();
    localStorage.setItem(key, id);
    return { id, forget: () => localStorage.removeItem(key) };
  } catch {
    // No storage, no resuming after a reload.
    return { id: randomUuid(), forget: () => undefined };
  }
}

function worthAnother(error: ApiError): boolean {
  return error.status === 0 || error.status >= 502 || error.status === 429 || error.code === 'upload_conflict';
}

let nextId = 1;

class Uploads {
  list = $state.raw<Upload[]>([]);

  readonly busy = $derived(this.list.filter(({ phase }) => phase === 'waiting' || phase === 'sending'));

  /** Puts all of it in line, for a folder of a workspace. */
  add(workspace: string, folder: string, { files: picked, emptyFolders }: Selection): void {
    const added = picked.map(({ file, relative }) => new Upload(nextId++, workspace, join(folder, relative), relative, file));
    this.list = [...this.list, ...added];
    for (const relative of emptyFolders) {
      files.mkdir(workspace, join(folder, relative)).catch((error: unknown) => toasts.failed(`${relative} was not made`, error));
    }
    this.#fill();
  }

  retry(upload: Upload): void {
    upload.error = undefined;
    upload.phase = 'waiting';
    this.#fill();
  }

  cancel(upload: Upload): void {
    const begun = upload.phase === 'sending' && upload.size > FIRST_BYTES;
    upload.phase = 'cancelled';
    upload.stop.abort();
    if (begun) {
      const { id, forget } = uploadId(upload);
      forget();
      // What has come so far; the guest sweeps it away in time if this does not.
      files.dropUpload(upload.workspace, upload.path, id).catch(() => undefined);
    }
    this.#fill();
  }

  /** Takes those off the list that need no more attention. */
  clear(): void {
    for (const upload of this.busy) this.cancel(upload);
    this.list = [];
  }

  #fill(): void {
    const sending = this.list.filter(({ phase }) => phase === 'sending').length;
    const next = this.list.filter(({ phase }) => phase === 'waiting').slice(0, Math.max(0, SENDING_MAX - sending));
    for (const upload of next) void this.#send(upload);
  }

  async #send(upload: Upload): Promise<void> {
    upload.phase = 'sending';
    try {
      if (upload.size <= FIRST_BYTES) await this.#whole(upload);
      else await this.#inPieces(upload);
      upload.sent = upload.size;
      upload.phase = 'done';
    } catch (error) {
      if (upload.stop.signal.aborted) return;
      upload.phase = 'failed';
      upload.error = error instanceof ApiError ? error : unreadable();
      if (upload.error.status === 401) session.lost();
    } finally {
      this.#fill();
    }
  }

  async #whole({ workspace, path, file, stop }: Upload): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await files.write(workspace, path, file, { signal: stop.signal });
        return;
      } catch (error) {
        await pause(error, attempt, stop.signal);
      }
    }
  }

  async #inPieces(upload: Upload): Promise<void> {
    const { workspace, path, file, stop } = upload;
    const { id, forget } = uploadId(upload);
    let attempt = 0;
    let bytes = FIRST_BYTES;
    let known = false;
    for (;;) {
      try {
        if (!known) upload.sent = (await files.uploadState(workspace, path, id)).offset;
        known = true;
        const piece = file.slice(upload.sent, upload.sent + bytes);
        const began = performance.now();
        const state = await files.writePiece(workspace, path, { upload: id, offset: upload.sent, total: file.size, bytes: piece }, stop.signal);
        upload.sent = state.offset;
        attempt = 0;
        bytes = nextPiece(Math.max(piece.size, 1), performance.now() - began);
        if (state.done) return forget();
      } catch (error) {
        known = false;
        await pause(error, attempt++, stop.signal);
      }
    }
  }
}

/** Waits before another attempt, or throws what makes one useless. */
async function pause(error: unknown, attempt: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || !(error instanceof ApiError) || !worthAnother(error) || attempt + 1 >= ATTEMPTS_MAX) throw error;
  await new Promise((resolve) => setTimeout(resolve, retryDelayMs(attempt + 1, Math.random())));
  if (signal.aborted) throw error;
}

function unreadable(): ApiError {
  const message = 'The browser could not read this file. It may have been changed or removed; choose it again.';
  return new ApiError(0, { code: 'unreadable', message, request_id: '', details: {} });
}

export const uploads = new Uploads();
