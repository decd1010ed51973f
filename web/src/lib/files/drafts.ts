// Text that was typed and not saved, by workspace and path, kept while the page is open: leaving a file
// for another view loses nothing.

export interface Draft {
  text: string;
  /** What the file held when the draft began. */
  etag: string;
}

export const drafts = new Map<string, Draft>();

addEventListener('beforeunload', (event) => {
  if (drafts.size > 0) event.preventDefault();
});
