/** The least id that an event of this time can have: ids are UUIDv7 (RFC 9562, section 5.7), which begin with the time. */
export function idOfTime(ms: number): string {
  const hex = Math.max(0, Math.floor(ms)).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7000-8000-000000000000`;
}
