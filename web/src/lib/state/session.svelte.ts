// Who is signed in. `unknown` until the server has said; a request that finds the sign-in gone calls
// `lost`, and the page asks for it again where the user stands.

import { api, ApiError, refresh } from '../api/client';
import type { AuthStatus, UserView } from '../api/types';
import { elsewhere } from './other-name';

/** The token lasts 12 hours; renewing it well before keeps an open page signed in. */
const REFRESH_MS = 60 * 60 * 1000;
const RETRY_MS = 2_000;

class Session {
  state = $state<'unknown' | 'unreachable' | 'out' | 'in'>('unknown');
  user = $state<UserView>();
  status = $state<AuthStatus>();

  async load(): Promise<void> {
    try {
      this.entered(await api.me());
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return this.askForSignIn();
      this.state = 'unreachable';
      setTimeout(() => void this.load(), RETRY_MS);
    }
  }

  async askForSignIn(): Promise<void> {
    try {
      this.status = await api.authStatus();
      const other = elsewhere(location.href);
      if (other) return location.replace(other);
      this.state = 'out';
    } catch {
      this.state = 'unreachable';
      setTimeout(() => void this.load(), RETRY_MS);
    }
  }

  entered(user: UserView): void {
    this.user = user;
    this.state = 'in';
  }

  async signOut(): Promise<void> {
    await api.logout().catch(() => undefined);
    this.lost();
  }

  lost(): void {
    this.user = undefined;
    void this.askForSignIn();
  }

  /** Renews the token now and then while the page is open. */
  keepAlive(): () => void {
    const timer = setInterval(() => {
      if (this.state === 'in') void refresh();
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }
}

export const session = new Session();

/** True when the failure means that nobody is signed in, which the page then handles. */
export function signedOut(error: unknown): boolean {
  if (!(error instanceof ApiError) || error.status !== 401) return false;
  session.lost();
  return true;
}
