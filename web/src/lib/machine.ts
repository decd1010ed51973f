// Machines that were joined, among the workspaces: what is different about them, in one place.

import type { WorkspaceAction, WorkspaceView } from './api/types';
import { HOME } from './files/paths';
import { VIEWS, type View } from './state/route';

/** What a machine has not: nothing here starts it, copies it or reads its counters. */
const LACKING: ReadonlySet<View> = new Set(['snapshots', 'egress', 'stats']);

export function viewsOf(workspace: WorkspaceView | undefined): View[] {
  return VIEWS.filter((view) => !workspace?.machine || !LACKING.has(view));
}

export function mayAct(workspace: WorkspaceView, action: { action: WorkspaceAction; when: string[] }): boolean {
  return !workspace.machine && action.when.includes(workspace.status);
}

export function homeOf(workspace: WorkspaceView): string {
  return workspace.machine?.home || HOME;
}

/** What it is made of, in a line. */
export function made({ image, machine }: WorkspaceView): string {
  if (!machine) return image;
  return [machine.os, machine.arch].filter((word) => word !== '').join(' · ') || 'not connected yet';
}

/** What is typed on a machine that is to join. */
export function joinCommand(origin: string, token: string, unit: boolean): string {
  const insecure = /^http:\/\/(?!localhost\b|127\.|\[::1\])/.test(origin) ? ' --insecure-http' : '';
  return `rexec join ${origin} --token ${token}${insecure}${unit ? ' --systemd > rexec-machine.service' : ''}`;
}
