// Messages that slide in and leave by themselves; failures stay longer, and go as soon as a later try does what failed. Quotes the server's
// code, advice and request id, so that a user can act or ask.

import { ApiError } from '../api/client';

export interface Toast {
  id: number;
  tone: 'good' | 'bad' | 'plain';
  title: string;
  message: string;
  code?: string;
  requestId?: string;
  /** The workspace that it tells of: who opens that sees it there. */
  about?: string;
}

/** Toasts on the screen at most; the oldest makes room. */
const TOASTS_MAX = 4;
const GOOD_MS = 3_500;
const BAD_MS = 14_000;

let nextId = 1;

class Toasts {
  list = $state<Toast[]>([]);

  show(toast: Omit<Toast, 'id'>): void {
    // The same trouble twice is one toast.
    const kept = this.list.filter((t) => t.title !== toast.title || t.message !== toast.message);
    const shown = { ...toast, id: nextId++ };
    this.list = [...kept, shown].slice(-TOASTS_MAX);
    setTimeout(() => this.dismiss(shown.id), toast.tone === 'bad' ? BAD_MS : GOOD_MS);
  }

  good(title: string, message = ''): void {
    this.show({ tone: 'good', title, message });
  }

  bad(title: string, message: string, code?: string): void {
    this.show({ tone: 'bad', title, message, ...(code ? { code } : {}) });
  }

  /** A failed request, in the server's own words. */
  failed(title: string, error: unknown): void {
    if (!(error instanceof ApiError)) return this.bad(title, String(error));
    const { code, message, request_id: requestId } = error.detail;
    this.show({ tone: 'bad', title, message, code, ...(requestId ? { requestId } : {}) });
  }

  /** What failed under this title has been done since, or is told elsewhere. */
  settle(title: string): void {
    this.list = this.list.filter((toast) => toast.tone !== 'bad' || toast.title !== title);
  }

  /** The workspace is in sight. */
  seen(workspace: string): void {
    this.list = this.list.filter(({ about }) => about !== workspace);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();
