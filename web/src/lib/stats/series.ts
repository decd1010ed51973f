// What a chart draws of a workspace's use: points in time, cut where it did not run.

import type { StatsPoint, StatsSample } from '../api/types';

export interface Point {
  atMs: number;
  /** Until when the value holds. */
  untilMs: number;
  cpu: number;
  memory: number;
  disk: number | null;
  /** Bytes per second. */
  received: number;
  sent: number;
  pids: number;
}

export type Figure = 'cpu' | 'memory' | 'disk' | 'received' | 'sent' | 'pids';

/** Samples come every two seconds; one that is this late has nothing to do with the one before. */
const GAP_MS = 15_000;

export function ofHistory(points: readonly StatsPoint[]): Point[] {
  return points.map((point) => {
    const atMs = Date.parse(point.at);
    const seconds = Math.max(1, point.seconds);
    return {
      atMs,
      untilMs: atMs + seconds * 1000,
      cpu: point.cpu,
      memory: point.memory_bytes,
      disk: point.disk_bytes ?? null,
      received: point.network_rx_bytes / seconds,
      sent: point.network_tx_bytes / seconds,
      pids: point.pids,
    };
  });
}

export function ofSample(sample: StatsSample): Point {
  const atMs = Date.parse(sample.at);
  return {
    atMs,
    untilMs: atMs,
    cpu: sample.cpu,
    memory: sample.memory_bytes,
    disk: sample.disk_bytes ?? null,
    received: sample.network_rx_rate,
    sent: sample.network_tx_rate,
    pids: sample.pids,
  };
}

/** Points kept of the live stream: a quarter of an hour. */
const LIVE_MAX = 450;

/** The live points with one more; a sample that is told twice counts once. */
export function extend(live: readonly Point[], next: Point): Point[] {
  if (live.some(({ atMs }) => atMs === next.atMs)) return [...live];
  return [...live, next].slice(-LIVE_MAX);
}

/** History as far as there is nothing finer, then the live points; none before `fromMs`. */
export function joined(history: readonly Point[], live: readonly Point[], fromMs: number): Point[] {
  const first = live[0]?.atMs ?? Infinity;
  return [...history.filter(({ atMs }) => atMs < first), ...live].filter(({ untilMs }) => untilMs >= fromMs);
}

/** Runs of points that belong together. */
export function segments(points: readonly Point[], figure: Figure): Point[][] {
  const runs: Point[][] = [];
  let last: Point | undefined;
  for (const point of points) {
    if (point[figure] === null) continue;
    if (last && point.atMs - last.untilMs <= GAP_MS) runs.at(-1)?.push(point);
    else runs.push([point]);
    last = point;
  }
  return runs;
}

/** A round figure that holds the largest value, in powers of 2 for bytes' sake: a scale that stands still. */
export function ceiling(points: readonly Point[], figures: readonly Figure[], least: number): number {
  const most = Math.max(least, ...points.flatMap((point) => figures.map((figure) => point[figure] ?? 0)));
  let scale = least;
  while (scale < most) scale *= 2;
  return scale;
}

export interface Box {
  width: number;
  height: number;
  fromMs: number;
  toMs: number;
  top: number;
}

/** SVG paths of a line, one for each run, and of the area below it. */
export function paths(points: readonly Point[], figure: Figure, box: Box): { line: string; area: string } {
  const x = (ms: number): number => ((ms - box.fromMs) / (box.toMs - box.fromMs)) * box.width;
  const y = (value: number): number => box.height - (Math.min(value, box.top) / box.top) * box.height;
  const one = (n: number): string => n.toFixed(1);
  let line = '';
  let area = '';
  for (const run of segments(points, figure)) {
    const corners = run.flatMap((point) => {
      const level = one(y(point[figure] ?? 0));
      const [left, right] = [one(x(point.atMs)), one(x(point.untilMs))];
      return left === right ? [`${left} ${level}`] : [`${left} ${level}`, `${right} ${level}`];
    });
    line += `M${corners.join('L')}`;
    area += `M${one(x(run[0]?.atMs ?? 0))} ${box.height}L${corners.join('L')}L${one(x(run.at(-1)?.untilMs ?? 0))} ${box.height}Z`;
  }
  return { line, area };
}

/** The point at a time, if something was known then. */
export function pointAt(points: readonly Point[], ms: number): Point | undefined {
  let best: Point | undefined;
  for (const point of points) {
    if (point.atMs > ms + 1000) break;
    best = point;
  }
  return best && ms - best.untilMs <= GAP_MS ? best : undefined;
}
