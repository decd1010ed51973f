// What one workspace may reach and what it asked for, followed while somebody looks.

import { api } from '../api/client';
import { ApiError } from '../api/request';
import { inWords, told } from '../api/told';
import type { EgressPreset, EgressSettings, EgressView, GithubAccess } from '../api/types';
import { placeOf, type Place } from '../egress/github';
import { continued, refreshed, refusedOf, type Log } from '../egress/log';
import { settingsOf, withoutLent, withoutRule, withRule, withSecret, type RuleKind } from '../egress/rules';
import { afterRule } from '../egress/standing';
import { live } from './live.svelte';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';
import { workspaces } from './workspaces.svelte';

/** The log brings no news of its own. */
const POLL_MS = 3_000;
const HOUR_MINUTES = 60;

export class WorkspaceEgress {
  view = $state.raw<EgressView>();
  log = $state.raw<Log>();
  /** Whether the log is of what was refused alone. */
  denied = $state(false);
  /** Something is being changed. */
  busy = $state(false);
  /** Older entries are on their way. */
  reading = $state(false);
  fault = $state.raw<ApiError>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watched = false;
  /** Raised when another log is asked for: an answer from before is of no use. */
  #turn = 0;
  /** The filter with which the log was read. */
  #read = false;

  constructor(private readonly workspace: string) {}

  /** Until the returned function is called; while the page is hidden, nothing is asked. */
  watch(): () => void {
    this.#watched = true;
    const visible = (): void => {
      if (!document.hidden) void this.#poll();
    };
    document.addEventListener('visibilitychange', visible);
    const deaf = live.hear((news) => {
      const mine = news === 'resync' || (news.workspace_id === this.workspace && /^workspace\.(egress_changed|status)$/.test(news.kind));
      if (mine) void this.load();
    });
    void this.#poll();
    return () => {
      this.#watched = false;
      clearTimeout(this.#timer);
      document.removeEventListener('visibilitychange', visible);
      deaf();
    };
  }

  async #poll(): Promise<void> {
    clearTimeout(this.#timer);
    if (!this.#watched || document.hidden || workspaces.leaves(this.workspace)) return;
    await Promise.all([this.load(), this.loadLog()]);
    clearTimeout(this.#timer);
    if (this.#watched) this.#timer = setTimeout(() => void this.#poll(), POLL_MS);
  }

  async load(): Promise<void> {
    await this.#asking(async () => this.#take(await api.egress(this.workspace)));
  }

  async loadLog(): Promise<void> {
    const [turn, denied] = [this.#turn, this.denied];
    await this.#asking(async () => {
      const { items, next } = await api.egressLog(this.workspace, denied);
      const fresh = { entries: items, next: next ?? undefined };
      if (turn !== this.#turn) return;
      this.log = this.log && this.#read === denied ? refreshed(this.log, fresh) : fresh;
      this.#read = denied;
    });
  }

  async more(): Promise<void> {
    const [turn, cursor] = [this.#turn, this.log?.next];
    if (!cursor) return;
    this.reading = true;
    await this.#asking(async () => {
      const { items, next } = await api.egressLog(this.workspace, this.denied, cursor);
      if (turn === this.#turn && this.log) this.log = continued(this.log, { entries: items, next: next ?? undefined });
    });
    this.reading = false;
  }

  show(denied: boolean): void {
    this.denied = denied;
    if (this.log && denied) this.log = refusedOf(this.log);
    this.#turn += 1;
    void this.loadLog();
  }

  async choose(preset: EgressPreset): Promise<void> {
    await this.#toasted('What it may reach was not changed', (now) => ({ ...now, preset }));
  }

  async give(name: string, given: boolean): Promise<void> {
    await this.#toasted(`${name} was not ${given ? 'given' : 'taken away'}`, (now) => withSecret(now, name, given));
  }

  async letModels(models: boolean): Promise<void> {
    await this.#toasted(`Models were not switched ${models ? 'on' : 'off'}`, (now) => ({ ...now, models }));
  }

  /** Lets it use repositories at GitHub, or none. Why it was refused, and where that belongs, if it was. */
  async letGithub(github: GithubAccess | null): Promise<{ place: Place; message: string } | undefined> {
    try {
      await this.#change((now) => ({ ...now, github }));
      return undefined;
    } catch (error) {
      if (signedOut(error)) return undefined;
      const field = error instanceof ApiError ? error.field : undefined;
      return { place: placeOf(field), message: error instanceof ApiError && field?.startsWith('egress.github') ? inWords(error.message) : told(error) };
    }
  }

  async remove(kind: RuleKind, rule: string): Promise<void> {
    await this.#toasted(`${rule} was not removed`, (now) => withoutRule(now, kind, rule));
  }

  /** Lets through what was refused, from here on. */
  async allow(rule: string): Promise<void> {
    const done = await this.#toasted(`${rule} was not allowed`, (now) => withRule(now, 'allow', rule));
    const status = workspaces.get(this.workspace)?.status;
    if (done && this.view && status) toasts.good(`${rule} is allowed`, afterRule(this.view, status));
  }

  /** The same for an hour. */
  async lend(rule: string): Promise<void> {
    this.busy = true;
    try {
      this.#take(await api.lendEgress(this.workspace, rule, HOUR_MINUTES));
      toasts.good(`${rule} is allowed for an hour`, 'It ends by itself.');
    } catch (error) {
      if (!signedOut(error)) toasts.failed(`${rule} was not allowed`, error);
    } finally {
      this.busy = false;
    }
  }

  async takeBack(rule: string): Promise<void> {
    await this.#toasted(`${rule} was not removed`, (now) => withoutLent(now, rule));
  }

  /** Why it was refused, if it was. */
  async add(kind: RuleKind, rule: string): Promise<string | undefined> {
    try {
      await this.#change((now) => withRule(now, kind, rule));
      return undefined;
    } catch (error) {
      if (signedOut(error)) return undefined;
      const named = error instanceof ApiError && error.field?.startsWith('egress');
      return named ? inWords(error.message) : told(error);
    }
  }

  async #toasted(title: string, change: (now: Required<EgressSettings>) => EgressSettings): Promise<boolean> {
    try {
      await this.#change(change);
      toasts.settle(title);
      return true;
    } catch (error) {
      if (!signedOut(error)) toasts.failed(title, error);
      return false;
    }
  }

  /** All of it is sent at once, so a change begins with what holds by now, and not with what was last seen. */
  async #change(change: (now: Required<EgressSettings>) => EgressSettings): Promise<void> {
    this.busy = true;
    try {
      const now = await api.egress(this.workspace);
      this.#take(await api.setEgress(this.workspace, change(settingsOf(now))));
    } finally {
      this.busy = false;
    }
  }

  /** An answer that was overtaken by a change is of no use. */
  #take(view: EgressView): void {
    if (!this.view || view.version >= this.view.version) this.view = view;
    this.fault = undefined;
  }

  async #asking(ask: () => Promise<void>): Promise<void> {
    try {
      await ask();
    } catch (error) {
      if (!signedOut(error) && error instanceof ApiError) this.fault = error;
    }
  }
}
