// The user's snapshots as the server last told them. One that is being taken has the list read again
// until it stands.

import { api } from '../api/client';
import type { SnapshotView } from '../api/types';
import { bytes } from '../format';
import { live } from './live.svelte';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

const POLL_MS = 600;

class Snapshots {
  list = $state.raw<SnapshotView[]>([]);
  loaded = $state(false);
  /** Being deleted. */
  going = $state<Record<string, true>>({});
  #watchers = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Taken from here, to be told of when they are ready. */
  #awaited = new Set<string>();

  of(workspace: string): SnapshotView[] {
    return this.list.filter((snapshot) => snapshot.workspace_id === workspace);
  }

  /** Keeps the list fresh until the returned function is called. */
  watch(): () => void {
    this.#watchers += 1;
    const deaf = live.hear((news) => {
      if (news === 'resync' || news.kind.startsWith('snapshot.')) void this.load();
    });
    void this.load();
    return () => {
      deaf();
      this.#watchers -= 1;
      if (this.#watchers === 0) clearTimeout(this.#timer);
    };
  }

  async load(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      this.list = await api.snapshots();
      this.loaded = true;
      this.#announce();
    } catch (error) {
      if (!signedOut(error) && !this.loaded) toasts.failed('Snapshots could not be listed', error);
    }
    const taking = this.list.some(({ state }) => state === 'taking');
    if (this.#watchers > 0 && (taking || !this.loaded)) this.#timer = setTimeout(() => void this.load(), POLL_MS);
  }

  /** Begins one; the list shows how it comes along. */
  async take(workspace: string, name: string): Promise<void> {
    const taken = await api.takeSnapshot(workspace, { wait_ms: 0, ...(name ? { name } : {}) });
    this.#awaited.add(taken.id);
    this.list = [taken, ...this.list.filter(({ id }) => id !== taken.id)];
    void this.load();
  }

  async remove(snapshot: SnapshotView): Promise<void> {
    this.going[snapshot.id] = true;
    try {
      await api.deleteSnapshot(snapshot.id);
      this.list = this.list.filter(({ id }) => id !== snapshot.id);
      toasts.good(`${snapshot.name} is deleted`);
    } catch (error) {
      if (!signedOut(error)) toasts.failed(`${snapshot.name} was not deleted`, error);
    } finally {
      delete this.going[snapshot.id];
      void this.load();
    }
  }

  #announce(): void {
    for (const snapshot of this.list) {
      if (snapshot.state === 'taking' || !this.#awaited.delete(snapshot.id)) continue;
      if (snapshot.state === 'ready') toasts.good(`${snapshot.name} is ready`, `${bytes(snapshot.size_bytes)} kept.`);
      else toasts.bad(`${snapshot.name} could not be taken`, snapshot.reason ?? 'Try again in a moment.');
    }
  }
}

export const snapshots = new Snapshots();
