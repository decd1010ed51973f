// What an event means to a person: a sentence, its tone and its picture.

import type { EventView } from '../api/types';
import type { IconName } from '../components/Icon.svelte';
import type { Tone } from '../format';

export interface FeedEntry {
  text: string;
  detail?: string;
  tone: Tone;
  icon: IconName;
}

const KINDS: Record<string, { text: string; tone: Tone; icon: IconName }> = {
  'workspace.created': { text: 'created', tone: 'good', icon: 'plus' },
  'workspace.deleted': { text: 'deleted', tone: 'off', icon: 'trash' },
  'workspace.restored': { text: 'restored', tone: 'good', icon: 'restart' },
  'workspace.renamed': { text: 'renamed', tone: 'off', icon: 'rename' },
  'workspace.started': { text: 'started', tone: 'good', icon: 'play' },
  'workspace.stopped': { text: 'stopped', tone: 'off', icon: 'stop' },
  'workspace.restarted': { text: 'restarted', tone: 'good', icon: 'restart' },
  'workspace.paused': { text: 'paused', tone: 'calm', icon: 'pause' },
  'workspace.resumed': { text: 'resumed', tone: 'good', icon: 'play' },
  'workspace.woken': { text: 'woke up', tone: 'good', icon: 'play' },
  'snapshot.created': { text: 'snapshot taken', tone: 'good', icon: 'camera' },
  'snapshot.deleted': { text: 'snapshot deleted', tone: 'off', icon: 'trash' },
  'port.set': { text: 'preview changed', tone: 'busy', icon: 'globe' },
  'port.reset': { text: 'preview is private again', tone: 'off', icon: 'globe' },
  'volume.purged': { text: 'home removed for good', tone: 'off', icon: 'trash' },
};

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
    return { text: status === 'stopped' ? 'went to sleep' : 'was paused', detail, tone: status === 'stopped' ? 'off' : 'calm', icon: status === 'stopped' ? 'stop' : 'pause' };
  }
  return undefined;
}

/** Nothing for news that only moves what is shown anyway. */
export function entryOf(event: EventView): FeedEntry | undefined {
  if (event.kind === 'workspace.status') return unasked(event);
  const known = KINDS[event.kind];
  if (known) return known;
  // A kind that came with a newer server: its name says what happened.
  return event.id == null ? undefined : { text: event.kind.replace('workspace.', '').replaceAll(/[._]/g, ' '), tone: 'off', icon: 'other' };
}
