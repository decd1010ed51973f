// How servers are, as people read it.

import type { ComputeHealth, ServerView } from '../api/types';
import { cores, mebibytes, until, type Tone } from '../format';

const DAY_MS = 24 * 60 * 60 * 1000;
/** A certificate that ends sooner is warned of. */
export const WARN_DAYS = 30;
/** From this share on a figure is said to be nearly used up. */
const NEARLY = 0.9;

export interface Bar {
  id: 'cpu' | 'memory' | 'disk' | 'workspaces';
  label: string;
  text: string;
  /** Of the limit, or where there is none of what the machine has; from 0 to 1, absent where neither is known. */
  share?: number;
  limited: boolean;
  tone: Tone;
}

interface Figure {
  used: number;
  /** Nothing: without a limit. */
  total: number | null | undefined;
  /** What the machine has. */
  has?: number | undefined;
  show: (count: number) => string;
  whole?: (count: number) => string;
}

function bar(id: Bar['id'], label: string, { used, total, has, show, whole = show }: Figure): Bar {
  const of = total || has;
  if (!of) return { id, label, text: whole(used), limited: false, tone: 'calm' };
  const share = used / of;
  const tone = !total ? 'calm' : share > 1 ? 'bad' : share >= NEARLY ? 'busy' : 'calm';
  return { id, label, text: `${show(used)} of ${whole(of)}`, share: Math.min(1, share), limited: Boolean(total), tone };
}

const plain = (count: number): string => String(Number(count.toFixed(2)));
const gibibytes = (count: number): string => mebibytes(count * 1024);

/** What workspaces have of a server. A limit of no workspaces at all is one. */
export function bars(server: ServerView): Bar[] {
  const { max_workspaces: max, workspaces } = server;
  return [
    bar('cpu', 'Cores', { used: server.used_cpu, total: server.total_cpu, has: server.found?.cpu, show: plain, whole: cores }),
    bar('memory', 'Memory', { used: server.used_memory_mb, total: server.total_memory_mb, has: server.found?.memory_mb, show: mebibytes }),
    bar('disk', 'Disk', { used: server.used_disk_gb, total: server.total_disk_gb, show: gibibytes }),
    max === 0
      ? { id: 'workspaces', label: 'Workspaces', text: `${workspaces} of 0`, share: 1, limited: true, tone: 'bad' }
      : bar('workspaces', 'Workspaces', { used: workspaces, total: max, show: plain }),
  ];
}

/** How it is, in two words at most; what is wanted of it comes after whether it can be used. */
export function standing(server: ServerView): { label: string; tone: Tone } {
  if (server.health === 'offline') return { label: 'Offline', tone: 'bad' };
  if (server.health === 'connecting') return { label: 'Connecting', tone: 'busy' };
  if (server.state === 'draining') return { label: 'Draining', tone: 'busy' };
  return { label: 'Ready', tone: 'good' };
}

export interface Certificate {
  whose: string;
  ends: string;
  tone: Tone;
  text: string;
  /** What to do about it. */
  advice: string;
}

/** Until when certificates are valid, of a server that is reached by TLS. */
export function certificates(server: ServerView, nowMs: number): Certificate[] {
  const both: [string, string | null | undefined, string][] = [
    ['Rexec’s certificate', server.certificate_expires_at, 'Make another by the same CA, and have Edit reach the server anew with it.'],
    ['The server’s certificate', server.server_certificate_expires_at, 'Renew it there and restart the engine.'],
  ];
  return both.flatMap(([whose, ends, advice]): Certificate[] => {
    if (!ends) return [];
    const left = Date.parse(ends) - nowMs;
    if (left <= 0) return [{ whose, ends, tone: 'bad', text: 'has expired', advice }];
    const tone: Tone = left < WARN_DAYS * DAY_MS ? 'busy' : 'good';
    return [{ whose, ends, tone, text: `expires ${until(ends, nowMs)}`, advice }];
  });
}

export interface FleetStanding {
  label: string;
  tone: Tone;
  text: string;
}

const HEALTH: Record<string, { label: string; tone: Tone }> = {
  ok: { label: 'Ok', tone: 'good' },
  degraded: { label: 'Degraded', tone: 'busy' },
  down: { label: 'Down', tone: 'bad' },
};

export function fleetStanding({ status, servers, ready }: ComputeHealth): FleetStanding {
  const known = HEALTH[status] ?? { label: status, tone: 'off' as const };
  const text = servers === 1 ? (ready === 1 ? 'The server is ready.' : 'The server is not ready.') : ready === servers ? `All ${servers} servers are ready.` : `${ready} of ${servers} servers are ready.`;
  return { ...known, text };
}

export interface Region {
  name: string;
  /** Servers that take workspaces now. */
  ready: number;
  /** How far the nearest of them is, in milliseconds. */
  latency?: number;
  /** It has as many workspaces as it may have. */
  full: boolean;
}

/** Regions by name. */
export function regionsOf(health: ComputeHealth | undefined): Region[] {
  const region = (name: string, ready: number): Region => {
    const latency = health?.latency_ms?.[name];
    return { name, ready, full: health?.full_regions?.includes(name) ?? false, ...(latency === undefined ? {} : { latency }) };
  };
  return Object.entries(health?.regions ?? {}).map(([name, ready]) => region(name, ready)).sort((a, b) => a.name.localeCompare(b.name));
}

/** A region as one chooses it: what speaks against it, or how far it is. */
export function choice({ name, ready, full, latency }: Region): string {
  const note = ready === 0 ? 'takes none now' : full ? 'full' : latency === undefined ? '' : `${latency} ms`;
  return note ? `${name} (${note})` : name;
}

export const places = (count: number): string => `${count} workspace${count === 1 ? '' : 's'}`;

/** The local one first, then by name. */
export function ordered(servers: ServerView[]): ServerView[] {
  return [...servers].sort((a, b) => Number(b.is_local) - Number(a.is_local) || a.name.localeCompare(b.name));
}

export function warm({ pool }: ServerView): string | undefined {
  return pool ? `warm ${pool.ready} of ${pool.target}` : undefined;
}
