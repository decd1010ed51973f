// The names under which the page uses the server's types, which are generated from its description.

import type { components } from './schema';

type Schemas = components['schemas'];

export type AuthStatus = Schemas['AuthStatus'];
export type UserView = Schemas['UserView'];
export type WorkspaceView = Schemas['WorkspaceView'];
export type WorkspaceStatus = Schemas['WorkspaceStatus'];
export type NewWorkspace = Schemas['NewWorkspace'];
export type TerminalView = Schemas['TerminalView'];
export type ExtractSummary = Schemas['ExtractSummary'];
export type FileInfo = Schemas['FileInfo'];
export type FileEvent = Schemas['FileEvent'];
export type UploadState = Schemas['UploadState'];
export type SnapshotView = Schemas['SnapshotView'];
export type NewSnapshot = Schemas['NewSnapshot'];
export type VolumeView = Schemas['VolumeView'];
export type StatsHistory = Schemas['StatsHistory'];
export type StatsPoint = Schemas['StatsPoint'];
export type StatsSample = Schemas['StatsSample'];
export type ProgressView = Schemas['ProgressView'];
export type PullView = Schemas['PullView'];
export type LayerView = Schemas['LayerView'];
export type RegistryView = Schemas['RegistryView'];
export type NewRegistry = Schemas['NewRegistry'];
export type SessionView = Schemas['SessionView'];
export type DeviceRequest = Schemas['DeviceRequestView'];
export type Scope = Schemas['Scope'];
export type NewToken = Schemas['NewToken'];
export type TokenView = Schemas['TokenView'];
export type CreatedToken = Schemas['CreatedToken'];
export type CreatedJoinToken = Schemas['CreatedJoinToken'];
export type SshKeyView = Schemas['SshKeyView'];
export type ImportedSshKeys = Schemas['ImportedSshKeys'];
export type SyncedSshKeys = Schemas['SyncedSshKeys'];
export type SshConnect = Schemas['SshConnect'];
export type PortList = Schemas['PortList'];
export type PortView = Schemas['PortView'];
export type SetPort = Schemas['SetPort'];
export type OpenedPort = Schemas['OpenedPort'];
export type HostCapacity = Schemas['HostCapacity'];
export type TemplateList = Schemas['TemplateList'];
export type TemplateView = Schemas['TemplateView'];
export type SetupView = Schemas['SetupView'];
export type LimitsView = Schemas['LimitsView'];
export type PutSecret = Schemas['PutSecret'];
export type SecretView = Schemas['SecretView'];
export type ModelsView = Schemas['ModelsView'];
export type ModelUse = Schemas['ModelUse'];
export type GithubAccess = Schemas['GithubAccess'];
export type EgressEntry = Schemas['EgressEntry'];
export type EgressPreset = Schemas['EgressPreset'];
export type EgressSettings = Schemas['EgressSettings'];
export type EgressView = Schemas['EgressView'];
export type IdleSettings = Schemas['IdleSettings'];
export type PatchWorkspace = Schemas['PatchWorkspace'];
export type EventView = Schemas['EventView'];
export type PatchServer = Schemas['PatchServer'];
export type MoveWorkspace = Schemas['MoveWorkspace'];
export type RegionView = Schemas['RegionView'];
export type NewServer = Schemas['NewServer'];
export type ServerFound = Schemas['ServerFound'];
export type ServerAction = 'test' | 'drain' | 'activate';
/** `pool`, of workspaces that wait ready-made, is told by servers that have one. */
export type ServerLost = Schemas['ServerLost'];
export type ServerView = Schemas['ServerView'] & { pool?: { ready: number; target: number; reason?: string | null } | null };
export type ComputeHealth = Omit<Schemas['ComputeHealth'], 'details'> & { details?: ServerView[] };
export type WorkspaceAction = 'start' | 'stop' | 'restart' | 'pause' | 'resume';

/** A failure; the page makes some of its own, and a newer server may have codes unknown here. */
export type ErrorDetail = Omit<Schemas['ErrorDetail'], 'code'> & { code: string };
