// All that the palette offers, as values: what it is called, and what choosing it means.

import type { SnapshotView, UserView, WorkspaceAction, WorkspaceView } from '../api/types';
import type { IconName } from '../components/Icon.svelte';
import { STATUS } from '../format';
import { mayAct, viewsOf } from '../machine';
import { viewAddress, type Route, type View } from '../state/route';
import { match } from './match';

export type Effect =
  | { kind: 'go'; address: string }
  | { kind: 'act'; workspace: string; action: WorkspaceAction }
  | { kind: 'new'; snapshot?: SnapshotView }
  | { kind: 'join' }
  | { kind: 'sign-out' };

export interface Command {
  id: string;
  group: string;
  label: string;
  icon: IconName;
  detail?: string;
  effect: Effect;
  /** Offered only when something is asked for: there would be too many. */
  quiet?: boolean;
}

export interface Found extends Command {
  at: number[];
}

export const VIEW_LOOK: Record<View, { label: string; icon: IconName }> = {
  terminals: { label: 'Terminals', icon: 'terminal' },
  files: { label: 'Files', icon: 'folder' },
  ports: { label: 'Ports', icon: 'globe' },
  egress: { label: 'Network', icon: 'shield' },
  snapshots: { label: 'Snapshots', icon: 'camera' },
  stats: { label: 'Usage', icon: 'pulse' },
  settings: { label: 'Settings', icon: 'sliders' },
};

export const ACTIONS: { action: WorkspaceAction; icon: IconName; label: string; when: string[] }[] = [
  { action: 'start', icon: 'play', label: 'Start', when: ['stopped', 'error'] },
  { action: 'resume', icon: 'play', label: 'Resume', when: ['paused'] },
  { action: 'pause', icon: 'pause', label: 'Pause', when: ['running'] },
  { action: 'restart', icon: 'restart', label: 'Restart', when: ['running', 'paused', 'unreachable'] },
  { action: 'stop', icon: 'stop', label: 'Stop', when: ['running', 'paused', 'unreachable', 'pulling', 'creating'] },
];

function ofWorkspace(workspace: WorkspaceView, here: boolean): Command[] {
  const { id, name, status } = workspace;
  const group = here ? 'This workspace' : 'Workspaces';
  const views = viewsOf(workspace).filter((view) => here || view !== 'terminals').map((view) => ({
    id: `${id} ${view}`,
    group,
    label: `${name}: ${VIEW_LOOK[view].label}`,
    icon: VIEW_LOOK[view].icon,
    effect: { kind: 'go' as const, address: viewAddress(id, view) },
    quiet: !here,
  }));
  const actions = ACTIONS.filter((action) => mayAct(workspace, action)).map(({ action, label, icon }) => ({
    id: `${id} ${action}`,
    group,
    label: `${label} ${name}`,
    icon,
    effect: { kind: 'act' as const, workspace: id, action },
    quiet: !here,
  }));
  const open: Command[] = here
    ? []
    : [{ id, group, label: name, icon: 'terminal', detail: STATUS[status].label, effect: { kind: 'go', address: viewAddress(id, 'terminals') } }];
  return [...open, ...views, ...actions];
}

export function commands(route: Route, workspaces: WorkspaceView[], snapshots: SnapshotView[], role: UserView['role'] = 'user'): Command[] {
  const here = route.page === 'workspace' ? route.id : undefined;
  const ordered = [...workspaces].sort((a, b) => Number(b.id === here) - Number(a.id === here));
  return [
    ...ordered.flatMap((workspace) => ofWorkspace(workspace, workspace.id === here)),
    { id: 'new', group: 'Rexec', label: 'New workspace', icon: 'plus', effect: { kind: 'new' } },
    { id: 'join', group: 'Rexec', label: 'Join a machine', icon: 'plug', effect: { kind: 'join' } },
    { id: 'home', group: 'Rexec', label: 'All workspaces', icon: 'grid', effect: { kind: 'go', address: '/' } },
    { id: 'storage', group: 'Rexec', label: 'Storage', icon: 'disk', effect: { kind: 'go', address: '/storage' } },
    { id: 'account', group: 'Rexec', label: 'Account', icon: 'user', effect: { kind: 'go', address: '/account' } },
    ...(role === 'admin' ? [{ id: 'servers', group: 'Rexec', label: 'Servers', icon: 'server' as const, effect: { kind: 'go' as const, address: '/servers' } }] : []),
    ...snapshots
      .filter(({ state }) => state === 'ready')
      .map((snapshot): Command => ({
        id: snapshot.id,
        group: 'Snapshots',
        label: `New workspace from ${snapshot.name}`,
        icon: 'clone',
        detail: snapshot.workspace_name,
        effect: { kind: 'new', snapshot },
        quiet: true,
      })),
    { id: 'sign-out', group: 'Rexec', label: 'Sign out', icon: 'exit', effect: { kind: 'sign-out' } },
  ];
}

/** Rows shown at most: who wants the rest types a letter more. */
const FOUND_MAX = 40;

/** The best first; without a question, what is near, in its order. */
export function find(query: string, list: Command[]): Found[] {
  if (query.trim() === '') return list.filter(({ quiet }) => !quiet).map((command) => ({ ...command, at: [] })).slice(0, FOUND_MAX);
  return list
    .flatMap((command) => {
      const found = match(query, command.label);
      return found ? [{ command, ...found }] : [];
    })
    .sort((a, b) => b.score - a.score)
    .slice(0, FOUND_MAX)
    .map(({ command, at }) => ({ ...command, at }));
}
