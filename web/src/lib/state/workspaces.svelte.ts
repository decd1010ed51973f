// The user's workspaces as the server last told them. News of a workspace has it read again; while no
// news comes, the list is asked for every 2.5 s, and faster while one is on its way between states.

import { api, ApiError } from '../api/client';
import type { MoveWorkspace, NewWorkspace, PatchWorkspace, WorkspaceAction, WorkspaceStatus, WorkspaceView } from '../api/types';
import { live } from './live.svelte';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

const POLL_MS = 2_500;
const POLL_MOVING_MS = 600;
/** Beside live news, only in case that some was missed. */
const POLL_LIVE_MS = 30_000;
/** News comes in bursts; what a burst is about is read once. */
const BURST_MS = 30;

export const MOVING: ReadonlySet<WorkspaceStatus> = new Set(['pending', 'pulling', 'creating', 'stopping']);

/** What may be changed of a workspace. */
export type Change = PatchWorkspace & { cpu?: number; memory_mb?: number; pids?: number };

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
  busy = $state<Record<string, WorkspaceAction | 'delete' | 'move'>>({});
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchers = 0;
  #asking = false;
  /** The list was asked for while an older answer was on its way. */
  #again = false;
  /** Workspaces of which there is news to be read. */
  #stale = new Set<string>();
  /** Deleted ones, of which there may be news still. */
  #gone = new Set<string>();
  /** Of all that were ever listed: news may be of one that is gone. */
  #names = new Map<string, string>();

  constructor() {
    live.hear((event) => {
      if (event === 'resync') return void this.refresh();
      if (event.kind === 'workspace.status' && (event.data as { status?: string }).status === 'deleted') return this.#drop(event.workspace_id);
      if (this.#gone.has(event.workspace_id)) return;
      if (this.#stale.size === 0) setTimeout(() => void this.#readStale(), BURST_MS);
      this.#stale.add(event.workspace_id);
    });
  }

  get(id: string): WorkspaceView | undefined {
    return this.list.find((workspace) => workspace.id === id);
  }

  /** Of one that is gone, or that is being deleted from here, nothing more is asked. */
  leaves(id: string): boolean {
    return this.busy[id] === 'delete' || this.#gone.has(id) || (this.loaded && this.get(id) === undefined);
  }

  nameOf(id: string): string | undefined {
    return this.get(id)?.name ?? this.#names.get(id);
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
    this.#again = this.#asking;
    if (this.#asking) return;
    this.#asking = true;
    try {
      const list = await api.workspaces();
      this.list = list.filter((workspace) => workspace.status !== 'deleted');
      this.loaded = true;
      for (const { id, name } of list) this.#names.set(id, name);
    } catch (error) {
      if (!signedOut(error) && !this.loaded) toasts.failed('Workspaces could not be listed', error);
    } finally {
      this.#asking = false;
      this.#later();
      if (this.#again) void this.refresh();
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
    await this.change(id, { name }, 'The name was not changed');
  }

  /** Changes what is named; a failure is told in a toast. */
  async change(id: string, change: Change, title: string): Promise<void> {
    try {
      await this.patch(id, change);
      toasts.settle(title);
    } catch (error) {
      if (!signedOut(error)) toasts.failed(title, error);
    }
  }

  /** The same, for who tells of a failure elsewhere. */
  async patch(id: string, change: Change): Promise<void> {
    this.#put(await api.changeWorkspace(id, change));
  }

  /** The answer does not wait: the card shows how far it is. */
  async move(id: string, to: MoveWorkspace): Promise<void> {
    const name = this.get(id)?.name ?? 'Workspace';
    await this.#guarded(id, 'move', `${name} could not be moved`, async () => {
      this.#put(await api.moveWorkspace(id, { ...to, wait_ms: 0 }));
    });
  }

  async remove(id: string): Promise<boolean> {
    const name = this.get(id)?.name ?? 'Workspace';
    return this.#guarded(id, 'delete', `${name} could not be deleted`, async () => {
      await api.deleteWorkspace(id);
      this.#drop(id);
      toasts.good(`${name} is deleted`);
    });
  }

  async #guarded(id: string, what: WorkspaceAction | 'delete' | 'move', title: string, work: () => Promise<void>): Promise<boolean> {
    this.busy[id] = what;
    try {
      await work();
      toasts.settle(title);
      return true;
    } catch (error) {
      if (!signedOut(error)) toasts.failed(title, error);
      return false;
    } finally {
      delete this.busy[id];
      void this.refresh();
    }
  }

  async #readStale(): Promise<void> {
    const ids = [...this.#stale];
    this.#stale.clear();
    const known = ids.filter((id) => this.get(id));
    // Of others it is not known whether they are still there: the list tells.
    if (known.length < ids.length) void this.refresh();
    await Promise.all(known.filter((id) => this.busy[id] !== 'delete').map((id) => this.#readOne(id)));
  }

  async #readOne(id: string): Promise<void> {
    try {
      this.#put(await api.workspace(id));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.#drop(id);
      else signedOut(error);
    }
  }

  #drop(id: string): void {
    this.#gone.add(id);
    this.#stale.delete(id);
    this.list = this.list.filter((workspace) => workspace.id !== id);
  }

  #put(workspace: WorkspaceView): void {
    if (workspace.status === 'deleted') return this.#drop(workspace.id);
    this.#names.set(workspace.id, workspace.name);
    const known = this.list.some((other) => other.id === workspace.id);
    this.list = known
      ? this.list.map((other) => (other.id === workspace.id ? workspace : other))
      : [workspace, ...this.list];
  }

  #later(): void {
    clearTimeout(this.#timer);
    if (this.#watchers === 0 || document.hidden) return;
    const moving = this.list.some((workspace) => MOVING.has(workspace.status));
    const travels = this.list.some((workspace) => workspace.moving?.state === 'moving');
    const pause = travels ? POLL_MS : live.on ? POLL_LIVE_MS : moving ? POLL_MOVING_MS : POLL_MS;
    this.#timer = setTimeout(() => void this.refresh(), pause);
  }
}

export const workspaces = new Workspaces();
