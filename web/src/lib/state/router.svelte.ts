// Where the page is: the address bar, read into a route.

import { parseRoute, type Route } from './route';

const here = (): string => location.pathname + location.search;

class Router {
  route = $state<Route>(parseRoute(here()));

  constructor() {
    addEventListener('popstate', () => (this.route = parseRoute(here())));
  }

  go(address: string, how: 'push' | 'replace' = 'push'): void {
    if (address === here()) return;
    if (how === 'push') history.pushState(null, '', address);
    else history.replaceState(null, '', address);
    this.route = parseRoute(address);
  }
}

export const router = new Router();

/** For links: follows in the page, but leaves new tabs and windows to the browser. */
export function follow(event: MouseEvent): void {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.currentTarget as HTMLElement).closest('a');
  if (!link) return;
  event.preventDefault();
  router.go(link.pathname + link.search);
}
