// The time, for components that tell how long ago something was.

import { onMount } from 'svelte';

/** Ticks while the component is there; called while it is made. */
export function ticking(everyMs = 1_000): { readonly now: number } {
  let now = $state(Date.now());
  onMount(() => {
    const clock = setInterval(() => (now = Date.now()), everyMs);
    return () => clearInterval(clock);
  });
  return {
    get now() {
      return now;
    },
  };
}
