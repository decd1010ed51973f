// How long to wait before the next attempt to connect: quick at first, because most cuts are a
// server's restart or a changed network, then longer with jitter, so that many pages do not return
// at the same instant.

export const FIRST_RETRY_MS = 100;
export const RETRY_MS_MAX = 5_000;

/** `attempt` counts from 0; `random` lies in [0, 1). */
export function retryDelayMs(attempt: number, random: number): number {
  if (attempt === 0) return FIRST_RETRY_MS;
  const ceiling = Math.min(RETRY_MS_MAX, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
