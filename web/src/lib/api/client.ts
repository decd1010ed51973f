// The REST calls of the page, by noun.

import { all, call, type Page } from './request';
import type {
  AuthStatus,
  ComputeHealth,
  CreatedJoinToken,
  CreatedToken,
  DeviceRequest,
  EgressEntry,
  EgressSettings,
  EgressView,
  ImportedSshKeys,
  ModelsView,
  MoveWorkspace,
  NewRegistry,
  NewServer,
  NewSnapshot,
  NewToken,
  NewWorkspace,
  OpenedPort,
  PatchServer,
  PatchWorkspace,
  PortList,
  PortView,
  PutSecret,
  RegionView,
  RegistryView,
  SecretView,
  ServerAction,
  ServerLost,
  ServerView,
  SessionView,
  SetPort,
  SetupView,
  SnapshotView,
  SshConnect,
  SshKeyView,
  StatsHistory,
  SyncedSshKeys,
  TemplateList,
  TerminalView,
  TokenView,
  UserView,
  VolumeView,
  WorkspaceAction,
  WorkspaceView,
} from './types';

export { ApiError, refresh } from './request';

export const workspacePath = (id: string): string => `/api/workspaces/${encodeURIComponent(id)}`;
const terminalPath = (id: string, tid: string): string => `${workspacePath(id)}/terminals/${encodeURIComponent(tid)}`;
const snapshotPath = (id: string): string => `/api/snapshots/${encodeURIComponent(id)}`;
const volumePath = (id: string): string => `/api/volumes/${encodeURIComponent(id)}`;

const serverPath = (id: string): string => `/api/admin/servers/${encodeURIComponent(id)}`;
/** A server is reached, told from the others and made ready before the answer, each of which may take a minute. */
const SERVER_MS_MAX = 150_000;

/** What credentials are for. */
export type CredentialsOf = 'images' | 'git';
const CREDENTIALS: Record<CredentialsOf, string> = { images: '/api/registries', git: '/api/git/credentials' };

export const api = {
  authStatus: () => call<AuthStatus>('GET', '/api/auth/status'),
  register: (email: string, password: string, name?: string) =>
    call<{ user: UserView }>('POST', '/api/auth/register', { email, password, ...(name ? { name } : {}) }),
  login: (email: string, password: string) => call<{ user: UserView }>('POST', '/api/auth/login', { email, password }),
  logout: () => call<void>('POST', '/api/auth/logout'),
  sessions: () => all<SessionView>('/api/auth/sessions'),
  endSession: (id: string) => call<void>('DELETE', `/api/auth/sessions/${encodeURIComponent(id)}`),
  deviceRequest: (userCode: string) => call<DeviceRequest>('POST', '/api/auth/device/lookup', { user_code: userCode }),
  approveDevice: (userCode: string) => call<void>('POST', '/api/auth/device/approve', { user_code: userCode }),
  denyDevice: (userCode: string) => call<void>('POST', '/api/auth/device/deny', { user_code: userCode }),
  credentials: (of: CredentialsOf) => all<RegistryView>(CREDENTIALS[of]),
  addCredentials: (of: CredentialsOf, request: NewRegistry) => call<RegistryView>('POST', CREDENTIALS[of], request),
  removeCredentials: (of: CredentialsOf, id: string) => call<void>('DELETE', `${CREDENTIALS[of]}/${encodeURIComponent(id)}`),
  secrets: () => all<SecretView>('/api/secrets'),
  putSecret: (name: string, request: PutSecret) => call<SecretView>('PUT', `/api/secrets/${encodeURIComponent(name)}`, request),
  removeSecret: (name: string) => call<void>('DELETE', `/api/secrets/${encodeURIComponent(name)}`),
  /** What is offered of language models, and what was used of it. */
  models: () => call<ModelsView>('GET', '/api/models'),
  tokens: () => all<TokenView>('/api/tokens'),
  createToken: (request: NewToken) => call<CreatedToken>('POST', '/api/tokens', request),
  revokeToken: (id: string) => call<void>('DELETE', `/api/tokens/${encodeURIComponent(id)}`),
  createJoinToken: (name?: string) => call<CreatedJoinToken>('POST', '/api/machines/tokens', name ? { name } : {}),
  revokeJoinToken: (id: string) => call<void>('DELETE', `/api/machines/tokens/${encodeURIComponent(id)}`),
  sshKeys: () => all<SshKeyView>('/api/ssh/keys'),
  addSshKey: (publicKey: string, name?: string) =>
    call<SshKeyView>('POST', '/api/ssh/keys', { public_key: publicKey, ...(name ? { name } : {}) }),
  importSshKeys: (username: string) => call<ImportedSshKeys>('POST', '/api/ssh/keys/github', { username }),
  removeSshKey: (id: string) => call<void>('DELETE', `/api/ssh/keys/${encodeURIComponent(id)}`),
  syncSshKeys: (workspace: string) => call<SyncedSshKeys>('POST', `/api/ssh/sync/${encodeURIComponent(workspace)}`),
  sshConnect: (workspace: string) => call<SshConnect>('GET', `/api/ssh/connect/${encodeURIComponent(workspace)}`),
  me: () => call<UserView>('GET', '/api/me'),

  workspaces: () => all<WorkspaceView>('/api/workspaces'),
  workspace: (id: string) => call<WorkspaceView>('GET', workspacePath(id)),
  moveWorkspace: (id: string, to: MoveWorkspace) => call<WorkspaceView>('POST', `/api/workspaces/${id}/move`, to),
  createWorkspace: (request: NewWorkspace) => call<WorkspaceView>('POST', '/api/workspaces', request),
  changeWorkspace: (id: string, change: PatchWorkspace) => call<WorkspaceView>('PATCH', workspacePath(id), change),
  deleteWorkspace: (id: string) => call<void>('DELETE', workspacePath(id)),
  act: (id: string, action: WorkspaceAction) => call<WorkspaceView>('POST', `${workspacePath(id)}/${action}`),

  templates: () => call<TemplateList>('GET', '/api/templates'),
  setup: (id: string) => call<SetupView>('GET', `${workspacePath(id)}/setup`),
  retrySetup: (id: string) => call<void>('POST', `${workspacePath(id)}/setup/retry`),

  ports: (id: string) => call<PortList>('GET', `${workspacePath(id)}/ports`),
  setPort: (id: string, port: number, change: SetPort) => call<PortView>('PUT', `${workspacePath(id)}/ports/${port}`, change),
  resetPort: (id: string, port: number) => call<void>('DELETE', `${workspacePath(id)}/ports/${port}`),
  openPort: (id: string, port: number, path?: string) =>
    call<OpenedPort>('POST', `${workspacePath(id)}/ports/${port}/open`, path ? { path } : {}),

  egress: (id: string) => call<EgressView>('GET', `${workspacePath(id)}/egress`),
  /** Waits until the gateway has been told, which takes seconds at most. */
  setEgress: (id: string, settings: EgressSettings) => call<EgressView>('PUT', `${workspacePath(id)}/egress`, settings),
  lendEgress: (id: string, rule: string, minutes: number) => call<EgressView>('POST', `${workspacePath(id)}/egress/allow`, { rule, minutes }),
  egressLog: (id: string, denied: boolean, cursor?: string) =>
    call<Page<EgressEntry>>('GET', `${workspacePath(id)}/egress/log?${new URLSearchParams({ denied: String(denied), ...(cursor ? { cursor } : {}) })}`),

  statsHistory: (id: string, since: string) =>
    call<StatsHistory>('GET', `${workspacePath(id)}/stats/history?${new URLSearchParams({ since })}`),

  terminals: (id: string) => all<TerminalView>(`${workspacePath(id)}/terminals`),
  createTerminal: (id: string, cols: number, rows: number) =>
    call<TerminalView>('POST', `${workspacePath(id)}/terminals`, { cols, rows }),
  deleteTerminal: (id: string, tid: string) => call<void>('DELETE', terminalPath(id, tid)),

  snapshots: () => all<SnapshotView>('/api/snapshots'),
  takeSnapshot: (workspace: string, request: NewSnapshot) =>
    call<SnapshotView>('POST', `${workspacePath(workspace)}/snapshots`, request),
  deleteSnapshot: (id: string) => call<void>('DELETE', snapshotPath(id)),

  volumes: () => all<VolumeView>('/api/volumes'),
  restoreVolume: (id: string, name?: string) =>
    call<WorkspaceView>('POST', `${volumePath(id)}/restore`, { wait_ms: 0, ...(name ? { name } : {}) }),
  purgeVolume: (id: string) => call<void>('DELETE', volumePath(id)),

  computeHealth: () => call<ComputeHealth>('GET', '/api/compute/health'),
  regions: () => all<RegionView>('/api/admin/regions'),
  limitRegion: (name: string, max_workspaces: number | null) => call<RegionView>('PUT', `/api/admin/regions/${encodeURIComponent(name)}`, { max_workspaces }),
  addServer: (request: NewServer) => call<ServerView>('POST', '/api/admin/servers', request, SERVER_MS_MAX),
  changeServer: (id: string, change: PatchServer) => call<ServerView>('PATCH', serverPath(id), change, SERVER_MS_MAX),
  askServer: (id: string, action: ServerAction) => call<ServerView>('POST', `${serverPath(id)}/${action}`, undefined, SERVER_MS_MAX),
  /** Takes out one that does not come back, with all that lay there. */
  writeOffServer: (id: string) => call<ServerLost>('DELETE', `${serverPath(id)}?lost=true`),
  deleteServer: (id: string) => call<void>('DELETE', serverPath(id)),
};

/** The address of a terminal's WebSocket. */
export function terminalSocketUrl(id: string, tid: string): string {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return `${scheme}//${location.host}${terminalPath(id, tid)}/ws`;
}
