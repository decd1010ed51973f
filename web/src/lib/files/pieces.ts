// How large the next piece of an upload is: small enough that its progress is seen and little is
// lost to a cut, large enough that the way there and back costs little.

export const FIRST_BYTES = 256 * 1024;
const BYTES_MIN = 64 * 1024;
const BYTES_MAX = 8 * 1024 * 1024;
/** How long a piece should take. */
const WANTED_MS = 600;

/** The size after a piece of `bytes` took `ms`: at most twice as large, but at once as small as need be. */
export function nextPiece(bytes: number, ms: number): number {
  const fitting = (bytes * WANTED_MS) / Math.max(1, ms);
  return Math.round(Math.min(BYTES_MAX, Math.max(BYTES_MIN, Math.min(fitting, bytes * 2))));
}
