import { expect, test } from 'vitest';
import { ceiling, extend, joined, ofHistory, ofSample, paths, pointAt, segments, type Point } from './series';

const point = (atMs: number, over: Partial<Point> = {}): Point => ({
  atMs, untilMs: atMs, cpu: 1, memory: 0, disk: null, received: 0, sent: 0, pids: 1, ...over,
});

test('spans become rates, and samples points', () => {
  const [span] = ofHistory([
    { at: '1970-01-01T00:01:00Z', seconds: 60, cpu: 0.5, memory_bytes: 7, disk_bytes: null, network_rx_bytes: 120, network_tx_bytes: 60, pids: 3 },
  ]);
  expect(span).toEqual({ atMs: 60_000, untilMs: 120_000, cpu: 0.5, memory: 7, disk: null, received: 2, sent: 1, pids: 3 });
  const sample = { at: '1970-01-01T00:00:01Z', cpu: 1, cpu_percent: 50, memory_bytes: 2, memory_limit_bytes: 4, network_rx_bytes: 9, network_rx_rate: 3, network_tx_bytes: 9, network_tx_rate: 4, pids: 5, pids_limit: 10 };
  expect(ofSample(sample)).toMatchObject({ atMs: 1000, received: 3, sent: 4, disk: null });
});

test('live points take the place of coarse ones, and none counts twice', () => {
  const history = [point(0, { untilMs: 60_000 }), point(60_000, { untilMs: 120_000 })];
  const live = extend(extend([], point(60_000)), point(62_000));
  expect(extend(live, point(62_000))).toHaveLength(2);
  expect(joined(history, live, 0).map(({ atMs }) => atMs)).toEqual([0, 60_000, 62_000]);
  expect(joined(history, live, 61_000).map(({ atMs }) => atMs)).toEqual([62_000]);
});

test('where it did not run there is no line', () => {
  const points = [point(0), point(2_000), point(100_000)];
  expect(segments(points, 'cpu').map((run) => run.length)).toEqual([2, 1]);
  expect(segments(points, 'disk')).toEqual([]);
  const { line } = paths(points, 'cpu', { width: 100, height: 10, fromMs: 0, toMs: 100_000, top: 2 });
  expect(line).toBe('M0.0 5.0L2.0 5.0M100.0 5.0');
  expect(pointAt(points, 50_000)).toBeUndefined();
  expect(pointAt(points, 2_500)?.atMs).toBe(2_000);
});

test('scales stand still', () => {
  expect(ceiling([point(0, { cpu: 0.9 })], ['cpu'], 1)).toBe(1);
  expect(ceiling([point(0, { cpu: 2.1 })], ['cpu'], 1)).toBe(4);
  expect(ceiling([], ['received'], 1024)).toBe(1024);
});
