// How far a workspace is on its way to being usable, followed while somebody looks.

import { workspacePath } from '../api/client';
import { listen } from '../api/sse';
import type { ProgressView } from '../api/types';

export class WorkspaceProgress {
  now = $state.raw<ProgressView>();

  constructor(private readonly workspace: string) {}

  /** Until the returned function is called. */
  watch(): () => void {
    return listen(`${workspacePath(this.workspace)}/progress`, {
      message: ({ data }) => (this.now = JSON.parse(data) as ProgressView),
      // The workspace's own state says what is wrong.
      refused: (error) => error.status >= 500,
    });
  }
}
