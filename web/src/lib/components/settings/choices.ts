// The choices of the settings, and how they are told.

import type { IdleSettings } from '../../api/types';
import { duration } from '../../format';

export type IdleField = 'pause_after_s' | 'stop_after_s' | 'lifetime_s' | 'delete_after_s';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const IDLE_FIELDS: { field: IdleField; label: string; note: string; choices: number[] }[] = [
  { field: 'pause_after_s', label: 'Pause when unused for', note: 'Frozen in memory; it wakes as soon as it is used.', choices: [5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 8 * HOUR] },
  { field: 'stop_after_s', label: 'Stop when unused for', note: 'Programs end; files and installed packages stay.', choices: [15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 8 * HOUR, DAY, 7 * DAY] },
  { field: 'lifetime_s', label: 'Stop after running for', note: 'Used or not.', choices: [HOUR, 8 * HOUR, DAY, 7 * DAY] },
  { field: 'delete_after_s', label: 'Delete when stopped for', note: 'You are warned before, and its home is kept for a while.', choices: [DAY, 7 * DAY, 30 * DAY, 90 * DAY] },
];

export interface Choice {
  value: number;
  label: string;
}

/** What can be chosen, with what holds now among it. 0 is never. */
export function choicesOf(choices: readonly number[], now: number): Choice[] {
  const values = [...new Set([...choices, now])].filter((value) => value > 0).sort((a, b) => a - b);
  return [...values.map((value) => ({ value, label: duration(value) })), { value: 0, label: 'never' }];
}

/** Whether a workspace says anything of its own. */
export function hasOwn(own: IdleSettings | null | undefined): boolean {
  return own != null && Object.values(own).some((value) => value !== undefined);
}

export function sameSize(a: number, b: number): boolean {
  return Math.abs(a - b) < 0.001;
}
