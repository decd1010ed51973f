// Figures and times as people read them.

import type { WorkspaceStatus } from './api/types';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Two units at most: `3d 4h`, `12m`, `8s`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < MINUTE) return `${s}s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m`;
  if (s < DAY) return pair(Math.floor(s / HOUR), 'h', Math.floor((s % HOUR) / MINUTE), 'm');
  return pair(Math.floor(s / DAY), 'd', Math.floor((s % DAY) / HOUR), 'h');
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large}${largeUnit}` : `${large}${largeUnit} ${small}${smallUnit}`;
}

export function since(time: string | null | undefined, nowMs: number): string {
  return time == null ? 'never' : duration((nowMs - Date.parse(time)) / 1000);
}

export function memory(mb: number): string {
  return mb >= 1024 ? `${Number((mb / 1024).toFixed(1))} GB` : `${mb} MB`;
}

export function cores(cpu: number): string {
  return `${Number(cpu.toFixed(2))} ${cpu === 1 ? 'core' : 'cores'}`;
}

export type Tone = 'good' | 'busy' | 'calm' | 'off' | 'bad';

export const STATUS: Record<WorkspaceStatus, { label: string; tone: Tone }> = {
  pending: { label: 'Queued', tone: 'busy' },
  pulling: { label: 'Pulling image', tone: 'busy' },
  creating: { label: 'Building', tone: 'busy' },
  running: { label: 'Running', tone: 'good' },
  paused: { label: 'Paused', tone: 'calm' },
  stopping: { label: 'Stopping', tone: 'busy' },
  stopped: { label: 'Sleeping', tone: 'off' },
  unreachable: { label: 'Unreachable', tone: 'bad' },
  error: { label: 'Error', tone: 'bad' },
  deleted: { label: 'Deleted', tone: 'off' },
};
