// Whether there is anywhere else that a workspace could be: asked once a session of the page, when somebody wants to know.

import { api } from '../api/client';
import { signedOut } from './session.svelte';

class Places {
  /** More than one server takes workspaces. */
  several = $state(false);
  #asked = false;

  ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    api.computeHealth().then(
      (health) => (this.several = health.servers > 1),
      (error: unknown) => {
        this.#asked = false;
        signedOut(error);
      },
    );
  }
}

export const places = new Places();
