// The user's workspaces as the server last told them, asked for again while the page is in sight:
// every 2.5 s, and faster while one is on its way between states.

import { api } from '../api/client';
import type { NewWorkspace, WorkspaceAction, WorkspaceStatus, WorkspaceView } from '../api/types';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

const POLL_MS = 2_500;
const POLL_MOVING_MS = 600;

export const MOVING: ReadonlySet<WorkspaceStatus> = new Set(['pending', 'pulling', 'creating', 'stopping']);

const DONE: Record<WorkspaceAction, string> = {
  start: 'started',
  stop: 'stopped',
  restart: 'restarted',
  pause: 'paused',
  resume: 'resumed',
};

class Workspaces {
  list = $state<WorkspaceView[]>([]);
  loaded = $state(false);
  /** Actions under way, by workspace. */
  busy = $state<Record<string, WorkspaceAction | 'delete'>>({});
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchers = 0;
  #asking = false;

  get(id: string): WorkspaceView | undefined {
    return this.list.find((workspace) => workspace.id === id);
  }

  /** Keeps the list fresh until the returned function is called. */
  watch(): () => void {
    this.#watchers += 1;
    const visible = (): void => {
      if (!document.hidden) void this.refresh();
    };
    document.addEventListener('visibilitychange', visible);
    void this.refresh();
    return () => {
      this.#watchers -= 1;
      document.removeEventListener('visibilitychange', visible);
      if (this.#watchers === 0) clearTimeout(this.#timer);
    };
  }

  async refresh(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const list = await api.workspaces();
      this.list = list.filter((workspace) => workspace.status !== 'deleted');
      this.loaded = true;
    } catch (error) {
      if (!signedOut(error) && !this.loaded) toasts.failed('Workspaces could not be listed', error);
    } finally {
      this.#asking = false;
      this.#later();
    }
  }

  async create(request: NewWorkspace): Promise<WorkspaceView> {
    // The answer does not wait for the machine: the page shows each step as it comes.
    const made = await api.createWorkspace({ ...request, wait_ms: 0 });
    this.#put(made);
    this.#later();
    return made;
  }

  async act(id: string, action: WorkspaceAction): Promise<void> {
    const name = this.get(id)?.name ?? 'Workspace';
    await this.#guarded(id, action, `${name} could not be ${DONE[action]}`, async () => {
      this.#put(await api.act(id, action));
    });
  }

  async rename(id: string, name: string): Promise<void> {
    try {
      this.#put(await api.renameWorkspace(id, name));
    } catch (error) {
      if (!signedOut(error)) toasts.failed('The name was not changed', error);
    }
  }

  async remove(id: string): Promise<boolean> {
    const name = this.get(id)?.name ?? 'Workspace';
    return this.#guarded(id, 'delete', `${name} could not be deleted`, async () => {
      await api.deleteWorkspace(id);
      this.list = this.list.filter((workspace) => workspace.id !== id);
      toasts.good(`${name} is deleted`);
    });
  }

  async #guarded(id: string, what: WorkspaceAction | 'delete', title: string, work: () => Promise<void>): Promise<boolean> {
    this.busy[id] = what;
    try {
      await work();
      return true;
    } catch (error) {
      if (!signedOut(error)) toasts.failed(title, error);
      return false;
    } finally {
      delete this.busy[id];
      void this.refresh();
    }
  }

  #put(workspace: WorkspaceView): void {
    const known = this.list.some((other) => other.id === workspace.id);
    this.list = known
      ? this.list.map((other) => (other.id === workspace.id ? workspace : other))
      : [workspace, ...this.list];
  }

  #later(): void {
    clearTimeout(this.#timer);
    if (this.#watchers === 0 || document.hidden) return;
    const moving = this.list.some((workspace) => MOVING.has(workspace.status));
    this.#timer = setTimeout(() => void this.refresh(), moving ? POLL_MOVING_MS : POLL_MS);
  }
}

export const workspaces = new Workspaces();
