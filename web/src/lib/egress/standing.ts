// From when on what was asked for is what is enforced, in a sentence.

import type { EgressView, WorkspaceStatus } from '../api/types';
import type { Tone } from '../format';
import type { RuleKind } from './rules';

export interface EgressStanding {
  tone: Tone;
  text: string;
  /** A restart brings it into force. */
  restart: boolean;
}

const DOWN: ReadonlySet<WorkspaceStatus> = new Set(['pending', 'stopped', 'error', 'deleted']);

export function standingOf({ state, network }: Pick<EgressView, 'state' | 'network'>, status: WorkspaceStatus): EgressStanding {
  if (DOWN.has(status)) return { tone: 'off', text: 'It does not run. This holds as soon as it starts.', restart: false };
  if (state === 'next_start') {
    const still = network === 'open' ? 'it still reaches the whole public internet' : 'it is still on the closed network, behind its server’s gateway';
    return { tone: 'busy', text: `Not in force yet: ${still}, until it is restarted. Programs in it end then; files stay.`, restart: true };
  }
  if (state === 'pending') return { tone: 'busy', text: 'In force in a moment: its server’s gateway is being told.', restart: false };
  return network === 'open'
    ? { tone: 'good', text: 'In force. It reaches the public internet directly, and neither its server nor other workspaces.', restart: false }
    : { tone: 'good', text: 'In force. All that it asks for goes through its server’s gateway, which decides and records.', restart: false };
}

/** What follows from a rule that was just added. */
export function afterRule({ state }: Pick<EgressView, 'state'>, status: WorkspaceStatus): string {
  if (DOWN.has(status)) return 'Added to its rules. It holds as soon as the workspace starts.';
  if (state === 'next_start') return 'Added to its rules. It holds once the workspace is restarted.';
  return state === 'pending' ? 'Added to its rules. It holds in a moment.' : 'Added to its rules. Let the program try again.';
}

/** What it means that a list has no rules. */
export function withoutRules(kind: RuleKind, { preset, github }: Pick<EgressView, 'preset' | 'github'>): string {
  if (kind === 'deny') return 'Nothing is denied.';
  if (preset === 'locked') return github ? 'No rules: it reaches its repositories at GitHub, and nothing else outside.' : 'No rules: it reaches nothing outside.';
  return preset === 'balanced' ? 'No rules: it reaches what the preset has.' : 'No rules are needed, but for private networks.';
}

/** Why the log has nothing. */
export function withoutLog({ state, network }: Pick<EgressView, 'state' | 'network'>, denied: boolean): string {
  if (network === 'open' && state === 'next_start') return 'Nothing is recorded on the open network. The log begins when the workspace is restarted.';
  if (network === 'open') return 'Nothing is recorded on the open network. The log begins with Balanced or Locked.';
  return denied ? 'Nothing was refused in the last seven days.' : 'It has asked for nothing yet. What its programs ask for shows up here within seconds.';
}
