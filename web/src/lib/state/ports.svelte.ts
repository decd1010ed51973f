// The ports on which something listens in one workspace, told as they come and go.

import { api } from '../api/client';
import { ApiError } from '../api/request';
import type { PortView, SetPort } from '../api/types';
import { live } from './live.svelte';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';
import { workspaces } from './workspaces.svelte';

export class WorkspacePorts {
  list = $state.raw<PortView[]>([]);
  loaded = $state(false);
  /** Why there are no previews here, if there are none. */
  unavailable = $state<string>();
  fault = $state.raw<ApiError>();
  /** Ports that are being changed or opened. */
  busy = $state<Record<number, true>>({});

  readonly listening = $derived(this.list.filter(({ listening }) => listening));

  constructor(private readonly workspace: string) {}

  /** Until the returned function is called. */
  watch(): () => void {
    void this.load();
    return live.hear((news) => {
      const mine = news === 'resync' || (news.workspace_id === this.workspace && /^(workspace\.(ports|status)|port\.)/.test(news.kind));
      if (mine) void this.load();
    });
  }

  async load(): Promise<void> {
    if (workspaces.leaves(this.workspace)) return;
    try {
      const { items, previews_unavailable } = await api.ports(this.workspace);
      this.list = items;
      this.unavailable = previews_unavailable ?? undefined;
      this.fault = undefined;
      this.loaded = true;
    } catch (error) {
      if (!signedOut(error) && error instanceof ApiError) this.fault = error;
    }
  }

  async set(port: number, change: SetPort): Promise<void> {
    await this.#guarded(port, `Port ${port} was not changed`, () => api.setPort(this.workspace, port, change));
  }

  async reset(port: number): Promise<void> {
    await this.#guarded(port, `Port ${port} was not changed`, () => api.resetPort(this.workspace, port));
  }

  /** Opens the preview in a tab of its own. The tab is made at once: later, the browser would take it for an advertisement. */
  async open(port: number): Promise<void> {
    const tab = window.open('about:blank', '_blank');
    await this.#guarded(port, `Port ${port} was not opened`, async () => {
      try {
        const { url } = await api.openPort(this.workspace, port);
        if (!tab) return toasts.bad('The browser opened no tab', `Allow this page to open windows, or go to ${url}`);
        tab.opener = null;
        tab.location.replace(url);
      } catch (error) {
        tab?.close();
        throw error;
      }
    });
  }

  async #guarded(port: number, title: string, work: () => Promise<unknown>): Promise<void> {
    this.busy[port] = true;
    try {
      await work();
      toasts.settle(title);
      await this.load();
    } catch (error) {
      if (!signedOut(error)) toasts.failed(title, error);
    } finally {
      delete this.busy[port];
    }
  }
}
