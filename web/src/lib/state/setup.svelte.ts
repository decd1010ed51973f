// The set-up of one workspace: what runs once after its first start, and whether it went well.

import { api } from '../api/client';
import { ApiError } from '../api/request';
import type { SetupView } from '../api/types';
import { live } from './live.svelte';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';
import { workspaces } from './workspaces.svelte';

/** News after which a set-up may go on that did not. */
const BEGINS = new Set(['workspace.status', 'workspace.started', 'workspace.restarted', 'workspace.setup_retried']);
/** Between two looks at a set-up that goes on. */
const LOOK_MS = 1_500;

const NOT_RETRIED = 'The set-up was not tried again';

export class WorkspaceSetup {
  now = $state.raw<SetupView>();
  retrying = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ended = false;

  constructor(private readonly workspace: string) {}

  /** Until the returned function is called. */
  watch(): () => void {
    void this.look();
    const deaf = live.hear((news) => {
      // While it goes on it is looked at anyway; what else there is news of does not change it.
      const begins = news !== 'resync' && news.workspace_id === this.workspace && BEGINS.has(news.kind);
      if (news === 'resync' || begins) void this.look();
    });
    return () => {
      deaf();
      this.#ended = true;
      clearTimeout(this.#timer);
    };
  }

  async look(): Promise<void> {
    clearTimeout(this.#timer);
    if (workspaces.leaves(this.workspace)) return;
    try {
      this.now = await api.setup(this.workspace);
    } catch (error) {
      // Without word of a set-up there is nothing to show; one that is gone with its workspace is no more.
      if (error instanceof ApiError && error.status === 404) this.now = undefined;
      else if (signedOut(error)) return;
    }
    const goesOn = this.now?.state === 'running' || this.now?.state === 'pending';
    if (goesOn && !this.#ended) this.#timer = setTimeout(() => void this.look(), LOOK_MS);
  }

  async retry(): Promise<void> {
    this.retrying = true;
    try {
      await api.retrySetup(this.workspace);
      toasts.settle(NOT_RETRIED);
    } catch (error) {
      if (!signedOut(error)) toasts.failed(NOT_RETRIED, error);
    } finally {
      this.retrying = false;
      void this.look();
    }
  }
}
