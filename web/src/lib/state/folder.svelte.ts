// One folder of a workspace as the page shows it, listed again whenever something in it changes.

import { files, watchAddress } from '../api/files';
import { ApiError } from '../api/request';
import { listen } from '../api/sse';
import type { FileEvent, FileInfo } from '../api/types';
import { signedOut } from './session.svelte';

/** The least time between two listings that changes bring about. */
const PAUSE_MS_MIN = 150;
/** Under constant change, the share of the time that goes into listing is one part in this. */
const PAUSE_TIMES = 4;

export class Folder {
  list = $state.raw<FileInfo[]>([]);
  loaded = $state(false);
  /** More entries than were asked for. */
  cut = $state(false);
  error = $state.raw<ApiError>();
  /** Changes are told as they happen. */
  live = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #tookMs = 0;
  #stopWatch: () => void;
  #ended = new AbortController();
  #hearers = new Set<(event: FileEvent) => void>();

  constructor(
    readonly workspace: string,
    readonly path: string,
    /** What `~` means there. */
    readonly home: string,
  ) {
    // The watch first: what happens between the two is listed, told, or both.
    this.#stopWatch = listen(watchAddress(workspace, path), {
      message: ({ data }) => this.#changed(JSON.parse(data) as FileEvent),
      live: (live) => {
        this.live = live;
        if (live) this.soon();
      },
      refused: (error) => error.status !== 401 && error.status !== 404 && error.code !== 'not_a_directory',
    });
    void this.load();
  }

  /** Tells changes as they come, until the returned function is called. */
  hear(hearer: (event: FileEvent) => void): () => void {
    this.#hearers.add(hearer);
    return () => this.#hearers.delete(hearer);
  }

  async load(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const began = performance.now();
    const { signal } = this.#ended;
    try {
      const { items, next } = await files.list(this.workspace, this.path, signal);
      this.list = items;
      this.cut = next != null;
      this.loaded = true;
      this.error = undefined;
    } catch (error) {
      if (signal.aborted || signedOut(error) || !(error instanceof ApiError)) return;
      this.error = error;
    } finally {
      this.#tookMs = performance.now() - began;
    }
  }

  soon(): void {
    this.#timer ??= setTimeout(() => void this.load(), Math.max(PAUSE_MS_MIN, PAUSE_TIMES * this.#tookMs));
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#ended.abort();
    this.#stopWatch();
  }

  #changed(event: FileEvent): void {
    this.soon();
    for (const hearer of this.#hearers) hearer(event);
  }
}
