// What an address means, and the address of what the page can show.

import { asField, ofField } from '../files/raw';

/** The views of a workspace, in the order of its rail. */
export const VIEWS = ['terminals', 'files', 'ports', 'egress', 'snapshots', 'stats', 'settings'] as const;
export type View = (typeof VIEWS)[number];

export interface WorkspaceRoute {
  page: 'workspace';
  id: string;
  view: View;
  /** The terminal to show, in the view of terminals. */
  terminal?: string;
  /** The folder and the file open in it, in the view of files. */
  path?: string;
  open?: string;
}

/** The way into a port's preview, whose visitors come here to prove who they are. */
export interface OpenPreviewRoute {
  page: 'open-preview';
  id: string;
  port: number;
  /** Where in the preview. */
  path: string;
  /** The workspace has to be started or resumed first, which is asked for. */
  start: boolean;
}

/** Where a machine's sign-in is approved. */
export interface DeviceRoute {
  page: 'device';
  /** What the machine shows, as the address has it. */
  code?: string;
}

export type Route = { page: 'dashboard' | 'storage' | 'account' | 'servers' | 'not-found' } | DeviceRoute | OpenPreviewRoute | WorkspaceRoute;

/** An address that the page does not have is told as such: another screen in its place would pass for what was asked for. */
export function parseRoute(address: string): Route {
  const url = new URL(address, 'http://page.invalid');
  const [, first, id, rest] = url.pathname.split('/');
  if (!first || (first === 'w' && !id)) return { page: 'dashboard' };
  if ((first === 'storage' || first === 'account' || first === 'servers') && !id) return { page: first };
  if (first === 'device' && !id) {
    const code = url.searchParams.get('code');
    return { page: 'device', ...(code ? { code } : {}) };
  }
  if (first === 'open-preview') return openPreview(url.searchParams);
  if (first !== 'w' || !id) return { page: 'not-found' };
  const view = VIEWS.find((name) => name === rest);
  if (view === 'files') {
    const path = ofField(url.searchParams, 'path');
    const open = ofField(url.searchParams, 'open');
    return { page: 'workspace', id, view, ...(path?.startsWith('/') ? { path } : {}), ...(open ? { open } : {}) };
  }
  if (view) return { page: 'workspace', id, view };
  return { page: 'workspace', id, view: 'terminals', ...(rest ? { terminal: rest } : {}) };
}

function openPreview(query: URLSearchParams): Route {
  const workspace = query.get('workspace');
  const port = Number(query.get('port'));
  const path = query.get('path');
  if (!workspace || !Number.isInteger(port)) return { page: 'not-found' };
  return { page: 'open-preview', id: workspace, port, path: path?.startsWith('/') ? path : '/', start: query.has('start') };
}

export function viewAddress(id: string, view: View): string {
  return view === 'terminals' ? `/w/${id}` : `/w/${id}/${view}`;
}

/** A folder of a workspace's files, and perhaps the file that is open in it. */
export function filesAddress(id: string, path: string, open?: string): string {
  const query = new URLSearchParams({ ...asField('path', path), ...(open ? asField('open', open) : {}) });
  return `/w/${id}/files?${query}`;
}
