// What is said of a stopped workspace that is going to be deleted, in people's time.

import type { WorkspaceView } from './api/types';
import { until } from './format';

/** A day and a time of it, where the reader is. */
export function dayAndTime(time: string): string {
  const at = new Date(time);
  // In another year the day of the week tells nothing.
  const date: Intl.DateTimeFormatOptions = at.getFullYear() === new Date().getFullYear() ? { weekday: 'short' } : { year: 'numeric' };
  return at.toLocaleString([], { ...date, day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
}

/** Once its owner has been warned, or nothing: `Will be deleted in 6d 23h (Sun, 22 Nov, 18:08)`. */
export function announced({ idle }: Pick<WorkspaceView, 'idle'>, nowMs: number): string | undefined {
  if (!idle?.deletion_announced || !idle.deletes_at) return undefined;
  return `Will be deleted ${until(idle.deletes_at, nowMs)} (${dayAndTime(idle.deletes_at)})`;
}
