import { toasts } from './toasts.svelte';

/** Copies, and says so; a browser that forbids it is told of with the text itself, to be copied by hand. */
export async function copy(text: string, done = 'Copied'): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toasts.good(done, text);
  } catch {
    toasts.bad('Nothing was copied', `The browser keeps the clipboard closed to this page. It is: ${text}`);
  }
}
