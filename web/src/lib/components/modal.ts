/**
 * Shows a dialog over the page while it is there. Taken away by Svelte it has left the document before it can close,
 * and a browser gives the keyboard back only to who was before a dialog that is still there: so it is done here.
 */
export function modal(dialog: HTMLDialogElement): () => void {
  const before = document.activeElement;
  dialog.showModal();
  return () => {
    dialog.close();
    const free = document.activeElement === null || document.activeElement === document.body;
    if (free && before instanceof HTMLElement && before.isConnected) before.focus();
  };
}
