// Tells in a toast what happened to a workspace without being asked for on this page.

import { unasked } from './feed';
import { live } from './live.svelte';
import { router } from './router.svelte';
import { toasts } from './toasts.svelte';
import { workspaces } from './workspaces.svelte';

/** Until the returned function is called. */
export function announce(): () => void {
  return live.hear((news) => {
    if (news === 'resync') return;
    const entry = unasked(news);
    const { route } = router;
    // Who looks at the workspace sees it there.
    const inSight = route.page === 'workspace' && route.id === news.workspace_id;
    if (!entry || inSight || workspaces.busy[news.workspace_id]) return;
    const title = `${workspaces.nameOf(news.workspace_id) ?? 'A workspace'} ${entry.text}`;
    toasts.show({ tone: entry.tone === 'bad' ? 'bad' : 'plain', title, message: entry.detail ?? '', about: news.workspace_id });
  });
}
