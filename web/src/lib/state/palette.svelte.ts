// The dialogs that any part of the page may open: the palette of commands, a new workspace, and a machine that joins.

import type { SnapshotView } from '../api/types';

class Palette {
  open = $state(false);

  toggle(): void {
    this.open = !this.open;
  }
}

export const palette = new Palette();

class Making {
  /** A workspace is being described; with a snapshot, one that begins as it. */
  request = $state.raw<{ snapshot: SnapshotView | undefined }>();
  /** A machine is about to join. */
  joining = $state(false);

  start(snapshot?: SnapshotView): void {
    this.request = { snapshot };
  }

  join(): void {
    this.joining = true;
  }

  end(): void {
    this.request = undefined;
    this.joining = false;
  }
}

export const making = new Making();
