// The names under which the page uses the server's types.

export type Role = 'admin' | 'user';
export type WorkspaceStatus =
  | 'pending' | 'pulling' | 'creating' | 'running' | 'paused'
  | 'stopping' | 'stopped' | 'unreachable' | 'error' | 'deleted';
export interface UserView { id: string; email: string; name: string | null; role: Role; created_at: string }
export interface AuthStatus { first_account: boolean; version: string }
export interface WorkspaceView {
  id: string; name: string; owner_id: string; status: WorkspaceStatus; status_reason: string | null;
  image: string; region: string; host: string | null; runtime: string; cpu: number; memory_mb: number;
  created_at: string; started_at: string | null;
}
export interface NewWorkspace {
  name?: string; image?: string; cpu?: number; memory_mb?: number; runtime?: string; wait_ms?: number;
}
export interface TerminalView {
  id: string; title: string | null; command: string[]; cols: number; rows: number; viewers: number;
  end: number; created_at: string; exit_code: number | null;
}
export interface ErrorDetail { code: string; message: string; request_id: string; details: unknown }
export type WorkspaceAction = 'start' | 'stop' | 'restart' | 'pause' | 'resume';
