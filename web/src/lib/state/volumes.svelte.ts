// The homes of the user's workspaces: those in use, and those kept of deleted ones.

import { api } from '../api/client';
import type { VolumeView } from '../api/types';
import { live } from './live.svelte';
import { router } from './router.svelte';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';
import { workspaces } from './workspaces.svelte';

class Volumes {
  list = $state.raw<VolumeView[]>([]);
  loaded = $state(false);
  /** What is being done to one, by its id. */
  busy = $state<Record<string, 'restore' | 'purge'>>({});

  readonly kept = $derived(this.list.filter(({ state }) => state === 'kept'));
  readonly inUse = $derived(this.list.filter(({ state }) => state === 'in_use'));

  /** Keeps the list fresh until the returned function is called. */
  watch(): () => void {
    void this.load();
    return live.hear((news) => {
      const about = news === 'resync' || /^(volume|workspace)\.(created|deleted|restored|purged|kept|status)$/.test(news.kind);
      if (about) void this.load();
    });
  }

  async load(): Promise<void> {
    try {
      this.list = await api.volumes();
      this.loaded = true;
    } catch (error) {
      if (!signedOut(error) && !this.loaded) toasts.failed('Homes could not be listed', error);
    }
  }

  /** Makes a workspace on a kept home and goes there. */
  async restore(volume: VolumeView): Promise<void> {
    await this.#guarded(volume, 'restore', `${volume.workspace_name} was not restored`, async () => {
      const made = await api.restoreVolume(volume.id);
      await workspaces.refresh();
      router.go(`/w/${made.id}`);
    });
  }

  async purge(volume: VolumeView): Promise<void> {
    await this.#guarded(volume, 'purge', `The home of ${volume.workspace_name} was not removed`, async () => {
      await api.purgeVolume(volume.id);
      this.list = this.list.filter(({ id }) => id !== volume.id);
      toasts.good(`The home of ${volume.workspace_name} is gone for good`);
    });
  }

  async #guarded(volume: VolumeView, what: 'restore' | 'purge', title: string, work: () => Promise<void>): Promise<void> {
    this.busy[volume.id] = what;
    try {
      await work();
    } catch (error) {
      if (!signedOut(error)) toasts.failed(title, error);
    } finally {
      delete this.busy[volume.id];
      void this.load();
    }
  }
}

export const volumes = new Volumes();
