// The choices of the settings, and how they are told.

import type { IdleSettings, LimitsView, WorkspaceView } from '../../api/types';
import { cores, duration, mebibytes } from '../../format';

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

export function sameCores(a: number, b: number): boolean {
  return Math.abs(a - b) < 0.001;
}

export function sameSize(a: LimitsView, b: LimitsView): boolean {
  return sameCores(a.cpu, b.cpu) && a.memory_mb === b.memory_mb && a.pids === b.pids;
}

/** What a workspace is to have: what was asked for last, else what is in force. */
export function wishOf({ limits_wanted, cpu, memory_mb, pids }: WorkspaceView): LimitsView {
  return limits_wanted ?? { cpu, memory_mb, pids: pids ?? 0 };
}

/** What holds until limits that were asked for come, and when they do. */
export function awaited(workspace: WorkspaceView): string | undefined {
  if (!workspace.limits_wanted) return undefined;
  const held = `${cores(workspace.cpu)}, ${mebibytes(workspace.memory_mb)} and ${(workspace.pids ?? 0).toLocaleString('en')} processes`;
  const up = workspace.status === 'running' || workspace.status === 'paused';
  return up ? `Asked for. Until its machine has it, ${held} hold.` : `Asked for. It comes when the machine next starts; until then it is ${held}.`;
}
