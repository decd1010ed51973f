// News of the user's workspaces as it happens, told to whoever wants to hear it, and kept as a feed.
// The stream begins with what the log has of the last day, so that a fresh page has a past to show.

import type { EventView } from '../api/types';
import { listen, type Message } from '../api/sse';
import { idOfTime } from './event-id';
import { after } from './feed';
import { session } from './session.svelte';

/** Either news, or that some was lost: what is shown must be read again. */
export type News = EventView | 'resync';

/** How far back the feed of a fresh page reaches. */
const PAST_MS = 24 * 60 * 60 * 1000;
/** Entries of the feed; the oldest make room. */
const FEED_MAX = 200;

class Live {
  /** Whether news comes now. */
  on = $state(false);
  /** The newest first. */
  feed = $state.raw<EventView[]>([]);
  #hearers = new Set<(news: News) => void>();
  #last: string | undefined;
  /** What happened before it is the log's; by the server's clock. */
  #since = 0;

  /** Tells all news from now on, until the returned function is called. */
  hear(hearer: (news: News) => void): () => void {
    this.#hearers.add(hearer);
    return () => this.#hearers.delete(hearer);
  }

  /** Listens until the returned function is called. */
  start(): () => void {
    this.feed = [];
    this.#last = idOfTime(Date.now() - PAST_MS);
    const stop = listen('/api/events', {
      message: (message) => this.#message(message),
      live: (on, atMs) => {
        this.on = on;
        if (on) this.#since = atMs;
      },
      lastId: () => this.#last,
      refused: (error) => {
        if (error.status !== 401) return true;
        session.lost();
        return false;
      },
    });
    return () => {
      stop();
      this.on = false;
    };
  }

  #message({ event, data, id }: Message): void {
    if (id) this.#last = id;
    if (event === 'resync') return this.#tell('resync');
    const news = JSON.parse(data) as EventView;
    const known = news.id != null && this.feed.some((entry) => entry.id === news.id);
    if (!known) this.feed = after(this.feed, news).slice(0, FEED_MAX);
    // The past is for the feed: who shows the present reads it at `resync`.
    if (Date.parse(news.at) >= this.#since) this.#tell(news);
  }

  #tell(news: News): void {
    for (const hearer of this.#hearers) hearer(news);
  }
}

export const live = new Live();
