// What an event means to a person: a sentence, its tone and its picture.

import type { EventView } from '../api/types';
import type { IconName } from '../components/Icon.svelte';
import { dayAndTime } from '../deletion';
import type { Tone } from '../format';

export interface FeedEntry {
  text: string;
  detail?: string;
  tone: Tone;
  icon: IconName;
}

const KINDS: Record<string, { text: string; tone: Tone; icon: IconName }> = {
  'workspace.created': { text: 'created', tone: 'good', icon: 'plus' },
  'workspace.joined': { text: 'joined', tone: 'good', icon: 'plug' },
  'workspace.left': { text: 'left', tone: 'off', icon: 'exit' },
  'workspace.deleted': { text: 'deleted', tone: 'off', icon: 'trash' },
  'workspace.lost': { text: 'was lost with its server', tone: 'bad', icon: 'trash' },
  'workspace.restored': { text: 'restored', tone: 'good', icon: 'restart' },
  'workspace.moved': { text: 'moved to another server', tone: 'off', icon: 'restart' },
  'workspace.renamed': { text: 'renamed', tone: 'off', icon: 'rename' },
  'workspace.started': { text: 'started', tone: 'good', icon: 'play' },
  'workspace.stopped': { text: 'stopped', tone: 'off', icon: 'stop' },
  'workspace.restarted': { text: 'restarted', tone: 'good', icon: 'restart' },
  'workspace.paused': { text: 'paused', tone: 'calm', icon: 'pause' },
  'workspace.resumed': { text: 'resumed', tone: 'good', icon: 'play' },
  'workspace.woken': { text: 'woke up', tone: 'good', icon: 'play' },
  'workspace.resized': { text: 'has a new size', tone: 'good', icon: 'sliders' },
  'workspace.egress_changed': { text: 'has other settings for what it may reach', tone: 'off', icon: 'shield' },
  'workspace.idle_changed': { text: 'has other settings for when it is unused', tone: 'off', icon: 'sliders' },
  'workspace.setup_retried': { text: 'tries its set-up again', tone: 'busy', icon: 'restart' },
  'workspace.deletion_announced': { text: 'is going to be deleted', tone: 'busy', icon: 'trash' },
  'workspace.deletion_withdrawn': { text: 'is not going to be deleted any more', tone: 'good', icon: 'check' },
  'workspace.disk_changed': { text: 'has another limit of its disk', tone: 'off', icon: 'disk' },
  'workspace.disk_nearly_full': { text: 'has a disk that is nearly full', tone: 'busy', icon: 'disk' },
  'workspace.disk_full': { text: 'has a full disk', tone: 'bad', icon: 'disk' },
  'workspace.disk_stopped': { text: 'was stopped: its disk is full', tone: 'bad', icon: 'disk' },
  'snapshot.created': { text: 'snapshot taken', tone: 'good', icon: 'camera' },
  'snapshot.deleted': { text: 'snapshot deleted', tone: 'off', icon: 'trash' },
  'port.set': { text: 'preview changed', tone: 'busy', icon: 'globe' },
  'port.reset': { text: 'preview is private again', tone: 'off', icon: 'globe' },
  'ssh.shell': { text: 'terminal opened by SSH', tone: 'off', icon: 'terminal' },
  'ssh.exec': { text: 'command run by SSH', tone: 'off', icon: 'terminal' },
  'ssh.sftp': { text: 'files reached by SFTP', tone: 'off', icon: 'terminal' },
  'ssh.forward': { text: 'port forwarded by SSH', tone: 'off', icon: 'globe' },
  'volume.purged': { text: 'home removed for good', tone: 'off', icon: 'trash' },
};

/** Events that tell the name a workspace begins with. */
const NAMING: ReadonlySet<string> = new Set(['workspace.created', 'workspace.joined', 'workspace.restored']);

/** The last names of the workspaces that the feed tells of, those gone among them; the feed has the newest first. */
export function namesIn(feed: EventView[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const { kind, workspace_id, data } of feed) {
    const { name, to } = data as { name?: unknown; to?: unknown };
    const told = kind === 'workspace.renamed' ? to : NAMING.has(kind) ? name : undefined;
    if (typeof told === 'string' && !names.has(workspace_id)) names.set(workspace_id, told);
  }
  return names;
}

/** The feed with what has just come; of a workspace whose making was refused after all, nothing has happened. */
export function after(feed: EventView[], news: EventView): EventView[] {
  if (news.kind === 'workspace.unmade') return feed.filter(({ workspace_id }) => workspace_id !== news.workspace_id);
  return [news, ...feed];
}

interface StatusData {
  status?: string;
  reason?: string | null;
  error?: string | null;
}

/** A status that nobody asked for here, and what to say of it. */
export function unasked(event: EventView): FeedEntry | undefined {
  if (event.kind !== 'workspace.status') return undefined;
  const { status, reason, error } = event.data as StatusData;
  const detail = reason ?? error ?? undefined;
  if (status === 'error') return { text: 'failed', tone: 'bad', icon: 'close', ...(detail ? { detail } : {}) };
  if (status === 'unreachable') return { text: 'is out of reach', tone: 'bad', icon: 'close', ...(detail ? { detail } : {}) };
  if ((status === 'stopped' || status === 'paused') && detail) {
    return { text: `was ${status}`, detail, tone: status === 'stopped' ? 'off' : 'calm', icon: status === 'stopped' ? 'stop' : 'pause' };
  }
  return undefined;
}

interface SshData {
  key?: string;
  certificate?: string;
  token?: string;
  address?: string;
  to?: string;
}

/** What let somebody in, from where, and what they were led to. */
function byWhat({ address, to, ...proof }: SshData): string {
  const kind = (['key', 'certificate', 'token'] as const).find((kind) => proof[kind]);
  const by = kind ? `with the ${kind} “${proof[kind]}”` : 'with a sign-in';
  return `${to ? `${to}, ` : ''}${by}${address ? `, from ${address}` : ''}`;
}

/** Nothing for news that only moves what is shown anyway. */
export function entryOf(event: EventView): FeedEntry | undefined {
  if (event.kind === 'workspace.status') return unasked(event);
  const known = KINDS[event.kind];
  const { deletes_at: deletes } = event.data as { deletes_at?: unknown };
  if (known && event.kind.startsWith('ssh.')) return { ...known, detail: byWhat(event.data as SshData) };
  if (known && typeof deletes === 'string') return { ...known, detail: `${dayAndTime(deletes)}, unless it is started before.` };
  if (known) return known;
  // A kind that came with a newer server: its name says what happened.
  return event.id == null ? undefined : { text: event.kind.replace('workspace.', '').replaceAll(/[._]/g, ' '), tone: 'off', icon: 'other' };
}
