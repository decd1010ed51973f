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

/** Such as `in 6d 23h`; what is past is `now`. */
export function until(time: string, nowMs: number): string {
  const seconds = (Date.parse(time) - nowMs) / 1000;
  return seconds <= 0 ? 'now' : `in ${duration(seconds)}`;
}

const MIB = 1024 * 1024;

/** Mebibytes, as limits are counted: `512 MiB`, `1.5 GiB`. */
export function mebibytes(count: number): string {
  return bytes(count * MIB);
}

export function cores(cpu: number): string {
  return `${Number(cpu.toFixed(2))} ${cpu === 1 ? 'core' : 'cores'}`;
}

export type Tone = 'good' | 'busy' | 'calm' | 'off' | 'bad';

/** A status on its own, and as the end of a sentence: "the workspace is …". */
export const STATUS: Record<WorkspaceStatus, { label: string; told: string; tone: Tone }> = {
  pending: { label: 'Queued', told: 'waiting for its place', tone: 'busy' },
  pulling: { label: 'Pulling image', told: 'fetching its image', tone: 'busy' },
  creating: { label: 'Building', told: 'being built', tone: 'busy' },
  running: { label: 'Running', told: 'running', tone: 'good' },
  paused: { label: 'Paused', told: 'paused', tone: 'calm' },
  stopping: { label: 'Stopping', told: 'being stopped', tone: 'busy' },
  stopped: { label: 'Stopped', told: 'stopped', tone: 'off' },
  unreachable: { label: 'Unreachable', told: 'out of reach', tone: 'bad' },
  error: { label: 'Error', told: 'not running', tone: 'bad' },
  deleted: { label: 'Deleted', told: 'deleted', tone: 'off' },
};

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** In powers of 1024, the only ones that the page has, as limits are set in them: `0 B`, `12.4 KiB`, `1.2 GiB`. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1023.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${Number(value.toFixed(digits))} ${BYTE_UNITS[unit]}`;
}

const COUNT_UNITS = ['', ' k', ' M', ' G', ' T'] as const;

/** In powers of 1000, as tokens are counted: `950`, `12.4 k`, `1.2 M`. */
export function count(of: number): string {
  let value = of;
  let unit = 0;
  while (value >= 999.5 && unit < COUNT_UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${Number(value.toFixed(digits))}${COUNT_UNITS[unit]}`;
}

/** A day's time today, else the date: short enough for a column. */
export function moment(ms: number, nowMs: number): string {
  const at = new Date(ms);
  const now = new Date(nowMs);
  if (at.toDateString() === now.toDateString()) return at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const sameYear = at.getFullYear() === now.getFullYear();
  return at.toLocaleDateString([], { day: 'numeric', month: 'short', ...(sameYear ? {} : { year: 'numeric' }) });
}

/** Permission bits as `ls` shows them: `rwxr-x---`, with `s` and `t` in their places. */
export function permissions(mode: number): string {
  const bit = (at: number, sign: string): string => ((mode >> at) & 1 ? sign : '-');
  const execute = (at: number, special: number, sign: string): string =>
    (mode >> special) & 1 ? ((mode >> at) & 1 ? sign : sign.toUpperCase()) : bit(at, 'x');
  const classes = [[6, 11, 's'], [3, 10, 's'], [0, 9, 't']] as const;
  return classes.map(([at, special, sign]) => bit(at + 2, 'r') + bit(at + 1, 'w') + execute(at, special, sign)).join('');
}
