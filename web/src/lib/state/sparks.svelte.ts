// The last hour of each running workspace, for the small lines on the dashboard: asked for now and then,
// because a stream for each card would be more than a browser opens.

import { api } from '../api/client';
import { ofHistory, type Point } from '../stats/series';
import { workspaces } from './workspaces.svelte';

const SPAN_MS = 60 * 60 * 1000;
const PAUSE_MS = 60_000;
/** Cards that get a line; beyond them a list is read, not looked at. */
const CARDS_MAX = 30;

class Sparks {
  of = $state.raw<Record<string, Point[]>>({});
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Until the returned function is called. */
  watch(): () => void {
    let ended = false;
    const turn = async (): Promise<void> => {
      if (!document.hidden) await this.#read();
      if (!ended) this.#timer = setTimeout(() => void turn(), workspaces.loaded ? PAUSE_MS : 500);
    };
    void turn();
    return () => {
      ended = true;
      clearTimeout(this.#timer);
    };
  }

  async #read(): Promise<void> {
    const since = new Date(Date.now() - SPAN_MS).toISOString();
    const running = workspaces.list.filter(({ status, machine }) => !machine && (status === 'running' || status === 'paused')).slice(0, CARDS_MAX);
    const read = running.map(async ({ id }) => {
      // A card without its line is no harm.
      const history = await api.statsHistory(id, since).catch(() => undefined);
      return [id, ofHistory(history?.points ?? [])] as const;
    });
    this.of = Object.fromEntries(await Promise.all(read));
  }
}

export const sparks = new Sparks();
export { SPAN_MS };
