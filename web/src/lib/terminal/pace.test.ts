import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ACK_BYTES, ACK_DELAY_MS, Acknowledger } from './acknowledger';
import { FIRST_RETRY_MS, RETRY_MS_MAX, retryDelayMs } from './backoff';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('the first retry is quick, later ones wait longer, none too long', () => {
  expect(retryDelayMs(0, 0.99)).toBe(FIRST_RETRY_MS);
  expect(retryDelayMs(4, 0)).toBeGreaterThan(retryDelayMs(1, 0));
  for (let attempt = 0; attempt < 2_000; attempt += 1) {
    expect(retryDelayMs(attempt, 0.999)).toBeLessThanOrEqual(RETRY_MS_MAX);
    expect(retryDelayMs(attempt, 0)).toBeGreaterThanOrEqual(FIRST_RETRY_MS);
  }
});

test('much drawn is acknowledged at once, little within a frame, and the last always', () => {
  const sent: number[] = [];
  const acks = new Acknowledger((offset) => sent.push(offset));
  acks.restart(100);
  acks.drawn(100 + ACK_BYTES);
  expect(sent).toEqual([100 + ACK_BYTES]);
  for (let byte = 1; byte <= 50; byte += 1) acks.drawn(100 + ACK_BYTES + byte);
  expect(sent).toHaveLength(1);
  vi.advanceTimersByTime(ACK_DELAY_MS);
  expect(sent).toEqual([100 + ACK_BYTES, 150 + ACK_BYTES]);
  acks.drawn(7);
  acks.stop();
  vi.runAllTimers();
  expect(sent).toHaveLength(2);
});
