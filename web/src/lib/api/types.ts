// The names under which the page uses the server's types, which are generated from its description.

import type { components } from './schema';

type Schemas = components['schemas'];

export type AuthStatus = Schemas['AuthStatus'];
export type UserView = Schemas['UserView'];
export type WorkspaceView = Schemas['WorkspaceView'];
export type WorkspaceStatus = Schemas['WorkspaceStatus'];
export type NewWorkspace = Schemas['NewWorkspace'];
export type TerminalView = Schemas['TerminalView'];
export type WorkspaceAction = 'start' | 'stop' | 'restart' | 'pause' | 'resume';

/** A failure; the page makes some of its own, and a newer server may have codes unknown here. */
export type ErrorDetail = Omit<Schemas['ErrorDetail'], 'code'> & { code: string };
