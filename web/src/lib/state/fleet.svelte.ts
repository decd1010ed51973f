// The servers that workspaces run on, for administrators. Read anew at a slow pace, and only while the page is in sight.

import { api } from '../api/client';
import { ApiError } from '../api/request';
import type { ComputeHealth, NewServer, PatchServer, ServerAction, ServerView } from '../api/types';
import { reason } from '../servers/faults';
import { ordered } from '../servers/standing';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

const POLL_MS = 10_000;

const DONE: Record<ServerAction, string> = { test: 'answers and is fit', drain: 'takes no more workspaces', activate: 'takes workspaces again' };
const UNDONE: Record<ServerAction, string> = { test: 'is not fit', drain: 'was not drained', activate: 'was not activated' };

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

class Fleet {
  health = $state.raw<ComputeHealth>();
  /** When the server last told it. */
  readAt = $state(0);
  /** The last time that was not to be had. */
  fault = $state('');
  /** What is being done to one, by its id. */
  busy = $state<Record<string, ServerAction | 'delete'>>({});
  /** Why the last thing asked of one was refused. */
  refusals = $state<Record<string, string>>({});
  #watchers = 0;
  /** Of several answers under way that to the last question counts. */
  #asked = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  readonly servers = $derived(ordered(this.health?.details ?? []));
  /** Each is told one by one to administrators alone. */
  readonly closed = $derived(this.health !== undefined && this.health.servers > 0 && this.servers.length === 0);

  /** Keeps it fresh until the returned function is called. */
  watch(): () => void {
    const look = (): void => {
      clearTimeout(this.#timer);
      if (!document.hidden) void this.load();
    };
    this.#watchers += 1;
    document.addEventListener('visibilitychange', look);
    look();
    return () => {
      this.#watchers -= 1;
      document.removeEventListener('visibilitychange', look);
      if (this.#watchers === 0) clearTimeout(this.#timer);
    };
  }

  async load(): Promise<void> {
    clearTimeout(this.#timer);
    const asked = (this.#asked += 1);
    try {
      const health = await api.computeHealth();
      if (asked !== this.#asked) return;
      this.health = health;
      this.readAt = Date.now();
      this.fault = '';
    } catch (error) {
      if (signedOut(error) || asked !== this.#asked) return;
      this.fault = error instanceof ApiError ? error.message : String(error);
    }
    if (this.#watchers > 0 && !document.hidden) this.#timer = setTimeout(() => void this.load(), POLL_MS);
  }

  async add(request: NewServer): Promise<ServerView> {
    const added = await api.addServer(request);
    void this.load();
    return added;
  }

  async change(server: ServerView, change: PatchServer): Promise<void> {
    await api.changeServer(server.id, change);
    await this.load();
    toasts.good(`${change.name ?? server.name} is changed`);
  }

  async ask(server: ServerView, action: ServerAction): Promise<void> {
    await this.#guarded(server, action, UNDONE[action], async () => {
      await api.askServer(server.id, action);
      toasts.good(`${server.name} ${DONE[action]}`);
    });
  }

  async remove(server: ServerView): Promise<void> {
    await this.#guarded(server, 'delete', 'was not deleted', async () => {
      await api.deleteServer(server.id);
      toasts.good(`${server.name} is deleted`, 'Nothing on it was touched.');
    });
  }

  async writeOff(server: ServerView): Promise<void> {
    await this.#guarded(server, 'delete', 'was not written off', async () => {
      const { workspaces, homes, snapshots, saved } = await api.writeOffServer(server.id);
      const kept = saved > 0 ? ` The homes of ${saved} of them are kept where they were before.` : '';
      toasts.good(`${server.name} is written off`, `With it: ${counted(workspaces, 'workspace')}, ${counted(homes, 'kept home')}, ${counted(snapshots, 'snapshot')}.${kept}`);
    });
  }

  /** A refusal is told on the server's card, where it stays until something else is asked of it. */
  async #guarded(server: ServerView, what: ServerAction | 'delete', undone: string, work: () => Promise<void>): Promise<void> {
    this.busy[server.id] = what;
    delete this.refusals[server.id];
    try {
      await work();
    } catch (error) {
      if (!signedOut(error)) this.refusals[server.id] = `${server.name} ${undone}. ${reason(error)}`;
    } finally {
      await this.load();
      delete this.busy[server.id];
    }
  }
}

export const fleet = new Fleet();
