import { expect, test } from 'vitest';
import type { ServerView } from '../api/types';
import { bars, certificates, choice, fleetStanding, ordered, regionsOf, standing, warm } from './standing';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const server = (more: Partial<ServerView>): ServerView =>
  ({
    name: 'a', is_local: false, health: 'ready', state: 'active', used_cpu: 2, total_cpu: 8, used_memory_mb: 4096, total_memory_mb: 32_768,
    used_disk_gb: 20, total_disk_gb: 100, workspaces: 3, max_workspaces: null, ...more,
  }) as ServerView;

test('bars tell use against totals, and that there is no limit', () => {
  expect(bars(server({})).map(({ text, share }) => [text, share])).toEqual([
    ['2 of 8 cores', 0.25], ['4 GiB of 32 GiB', 0.125], ['20 GiB of 100 GiB', 0.2], ['3', undefined],
  ]);
  const found = { cpu: 4, memory_mb: 8192 } as ServerView['found'];
  const open = bars(server({ used_cpu: 6, total_cpu: 0, total_memory_mb: 0, total_disk_gb: 0, found: found ?? null }));
  expect(open.map(({ text, limited, tone }) => [text, limited, tone])).toEqual([
    ['6 of 4 cores', false, 'calm'], ['4 GiB of 8 GiB', false, 'calm'], ['20 GiB', false, 'calm'], ['3', false, 'calm'],
  ]);
  const full = bars(server({ used_cpu: 9, used_memory_mb: 30_000, total_disk_gb: 0, max_workspaces: 0 }));
  expect(full.map(({ tone, share }) => [tone, share])).toEqual([['bad', 1], ['busy', 30_000 / 32_768], ['calm', undefined], ['bad', 1]]);
  expect(full[3]?.text).toBe('3 of 0');
});

test('that it cannot be used comes before what is wanted of it', () => {
  expect(standing(server({})).label).toBe('Ready');
  expect(standing(server({ state: 'draining' })).label).toBe('Draining');
  expect(standing(server({ state: 'draining', health: 'offline' })).label).toBe('Offline');
  expect(standing(server({ health: 'connecting' })).tone).toBe('busy');
});

test('a certificate is warned of below 30 days', () => {
  const ends = (date: string): [string, string][] => certificates(server({ certificate_expires_at: date }), NOW).map(({ tone, text }) => [tone, text]);
  expect(ends('2026-02-01T00:00:00Z')).toEqual([['good', 'expires in 31d']]);
  expect(ends('2026-01-30T23:00:00Z')).toEqual([['busy', 'expires in 29d 23h']]);
  expect(ends('2026-01-01T00:00:00Z')).toEqual([['bad', 'has expired']]);
  expect(certificates(server({}), NOW)).toEqual([]);
  expect(certificates(server({ server_certificate_expires_at: '2026-01-02T00:00:00Z' }), NOW)[0]?.whose).toBe('The server’s certificate');
});

test('the fleet is told in a sentence', () => {
  const told = (servers: number, ready: number, status: string): string => fleetStanding({ servers, ready, status, regions: {} }).text;
  expect([told(1, 1, 'ok'), told(1, 0, 'down'), told(3, 3, 'ok'), told(3, 1, 'degraded')]).toEqual([
    'The server is ready.', 'The server is not ready.', 'All 3 servers are ready.', '1 of 3 servers are ready.',
  ]);
  expect(fleetStanding({ servers: 3, ready: 1, status: 'degraded', regions: {} }).tone).toBe('busy');
  expect(regionsOf({ servers: 2, ready: 2, status: 'ok', regions: { us: 1, eu: 0 } })).toEqual([{ name: 'eu', ready: 0, full: false }, { name: 'us', ready: 1, full: false }]);
  const near = { servers: 2, ready: 2, status: 'ok', regions: { us: 1, eu: 0, at: 2 }, latency_ms: { us: 81.5, at: 1 }, full_regions: ['at'] };
  expect(regionsOf(near).map(choice)).toEqual(['at (full)', 'eu (takes none now)', 'us (81.5 ms)']);
  expect(choice({ name: 'us', ready: 1, full: false })).toBe('us');
  expect(regionsOf(undefined)).toEqual([]);
});

test('the local server comes first, and a pool is told where there is one', () => {
  const names = ordered([server({ name: 'b' }), server({ name: 'local', is_local: true }), server({ name: 'a' })]).map(({ name }) => name);
  expect(names).toEqual(['local', 'a', 'b']);
  expect(warm(server({ pool: { ready: 3, target: 5 } }))).toBe('warm 3 of 5');
  expect([warm(server({})), warm(server({ pool: null }))]).toEqual([undefined, undefined]);
});
