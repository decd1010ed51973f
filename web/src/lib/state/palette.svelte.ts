// The dialogs that any part of the page may open: the palette of commands, and a new workspace.

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

  start(snapshot?: SnapshotView): void {
    this.request = { snapshot };
  }

  end(): void {
    this.request = undefined;
  }
}

export const making = new Making();
