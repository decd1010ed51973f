// The terminals of one workspace, as tabs. A tab outlives its terminal until the user closes it, so
// that a last message can be read. Invariant: `active` names a tab whenever there is one.

import { api, ApiError } from '../api/client';
import type { TerminalView } from '../api/types';
import type { Phase, TerminalClient, Verdict } from '../terminal/client';
import type { Cells } from '../terminal/measure';
import type { Screen } from '../terminal/screen';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

export interface Tab {
  id: string;
  title: string | null;
  phase: Phase;
  exitCode: number | null;
  /** Rang its bell while out of sight. */
  rang: boolean;
  viewers: number;
  controller: boolean;
  /** The terminal has the size of this window. */
  fits: boolean;
  /** Was looked at: only then is it attached and drawn. */
  opened: boolean;
}

/** What a drawn tab offers to the page around it. */
export interface Pane {
  screen: Screen;
  client: TerminalClient;
}

declare global {
  interface Window {
    /** For tests and diagnosis: the terminals drawn now, by id. */
    __rexec: { terminals: Map<string, Pane> };
  }
}

export const panes = new Map<string, Pane>();
window.__rexec = { terminals: panes };

function tabOf(view: TerminalView): Tab {
  return {
    id: view.id,
    title: view.title ?? null,
    phase: 'connecting',
    exitCode: null,
    rang: false,
    viewers: 1,
    controller: true,
    fits: true,
    opened: false,
  };
}

const NOT_MADE = 'No new terminal';

export class WorkspaceTerminals {
  tabs = $state<Tab[]>([]);
  active = $state<string>();
  creating = $state(false);
  loaded = $state(false);
  /** The image has no shell: a terminal cannot be had of it. */
  shellless = $state(false);

  constructor(private readonly workspace: string) {}

  tab(id: string | undefined): Tab | undefined {
    return this.tabs.find((tab) => tab.id === id);
  }

  /** Takes over what runs in the workspace; makes a first terminal when there is none but those of a set-up. */
  async load(preferred: string | undefined, cells: Cells): Promise<void> {
    try {
      const alive = (await api.terminals(this.workspace)).filter((view) => view.exit_code == null);
      const ids = new Set(alive.map((view) => view.id));
      const kept = this.tabs.filter((tab) => ids.has(tab.id) || tab.exitCode !== null);
      const known = new Set(kept.map((tab) => tab.id));
      this.tabs = [...kept, ...alive.filter((view) => !known.has(view.id)).map(tabOf)];
      const shown = this.tab(preferred) ?? this.tab(this.active) ?? (await this.#own(alive));
      this.loaded = true;
      if (!shown) return await this.create(cells);
      this.show(shown.id);
    } catch (error) {
      if (!signedOut(error)) toasts.failed('The terminals could not be listed', error);
    }
  }

  /** The last terminal that runs no step of the set-up: such a one ends by itself, and with it what one looks at. */
  async #own(alive: TerminalView[]): Promise<Tab | undefined> {
    if (alive.length === 0) return undefined;
    // A step's terminal is recorded before it is made, so whatever was listed is known here.
    const { steps } = await api.setup(this.workspace);
    const own = alive.filter((view) => !steps.some((step) => step.terminal_id === view.id));
    return this.tab(own.at(-1)?.id);
  }

  show(id: string | undefined): void {
    this.active = id;
    const tab = this.tab(id);
    if (!tab) return;
    tab.opened = true;
    tab.rang = false;
  }

  /** News of an attached terminal. */
  update(id: string, news: Partial<Omit<Tab, 'id'>>): void {
    const tab = this.tab(id);
    if (tab) Object.assign(tab, news);
  }

  /** The tab to the left (-1) or right (1), around the ends. */
  step(by: -1 | 1): void {
    const at = this.tabs.findIndex((tab) => tab.id === this.active);
    const next = this.tabs[(at + by + this.tabs.length) % this.tabs.length];
    if (next) this.show(next.id);
  }

  async create({ cols, rows }: Cells): Promise<void> {
    if (this.creating) return;
    this.creating = true;
    try {
      const view = await api.createTerminal(this.workspace, cols, rows);
      if (!this.tab(view.id)) this.tabs.push(tabOf(view));
      this.show(view.id);
      this.shellless = false;
      toasts.settle(NOT_MADE);
    } catch (error) {
      if (signedOut(error)) return;
      if (error instanceof ApiError && error.code === 'command_not_found') this.shellless = true;
      else toasts.failed(NOT_MADE, error);
    } finally {
      this.creating = false;
    }
  }

  async close(id: string): Promise<void> {
    const tab = this.tab(id);
    if (!tab) return;
    const at = this.tabs.indexOf(tab);
    this.tabs = this.tabs.filter((other) => other.id !== id);
    if (this.active === id) this.show((this.tabs[at] ?? this.tabs[at - 1])?.id);
    try {
      await api.deleteTerminal(this.workspace, id);
    } catch (error) {
      const gone = error instanceof ApiError && (error.status === 404 || error.status === 410 || error.status === 409);
      if (!gone && !signedOut(error)) toasts.failed('The terminal was not ended', error);
    }
  }

  /** The container went away, and every terminal with it. */
  clear(): void {
    this.tabs = [];
    this.active = undefined;
    this.loaded = false;
  }

  /** What became of a terminal whose WebSocket does not open. */
  async probe(id: string): Promise<Verdict> {
    try {
      const views = await api.terminals(this.workspace);
      return views.some((view) => view.id === id) ? 'retry' : 'ended';
    } catch (error) {
      if (!(error instanceof ApiError)) return 'retry';
      if (error.status === 401) return 'signed_out';
      if (error.status === 403) return 'refused';
      return error.status === 404 || error.status === 410 ? 'ended' : 'retry';
    }
  }
}
