// What the host can give a workspace.

import type { HostCapacity } from '../api/types';
import { cores, mebibytes } from '../format';

/** Why the host cannot give so much; nothing where it can, or nobody knows. */
export function beyond(asked: { cpu: number; memory_mb: number }, host: HostCapacity | undefined): string | undefined {
  if (host?.cpu != null && asked.cpu > host.cpu) return `The host has ${cores(host.cpu)}`;
  if (host?.memory_mb != null && asked.memory_mb > host.memory_mb) return `The host has ${mebibytes(host.memory_mb)}`;
  return undefined;
}
