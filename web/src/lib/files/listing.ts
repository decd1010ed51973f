// A folder's entries in the order in which they are shown.

import type { FileInfo } from '../api/types';

export type Column = 'name' | 'size' | 'modified';

export interface Order {
  column: Column;
  descending: boolean;
}

export interface Entry extends FileInfo {
  /** Unlike the name, never the same twice: two names that are not UTF-8 can look alike. */
  key: string;
}

/** Folders first, then by the column; names in the way of people, `a2` before `a10`. */
export function arrange(list: readonly FileInfo[], order: Order, hidden: boolean, wanted: string): Entry[] {
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
  const needle = wanted.trim().toLowerCase();
  const sign = order.descending ? -1 : 1;
  const seen = new Map<string, number>();
  return list
    .filter(({ name }) => (hidden || !name.startsWith('.')) && name.toLowerCase().includes(needle))
    .map((info) => {
      const twin = seen.get(info.name) ?? 0;
      seen.set(info.name, twin + 1);
      return { ...info, key: `${info.name}/${twin}` };
    })
    .sort((a, b) => {
      const folders = Number(b.kind === 'directory') - Number(a.kind === 'directory');
      if (folders !== 0) return folders;
      const by = order.column === 'size' ? a.size - b.size : order.column === 'modified' ? a.modified_ms - b.modified_ms : 0;
      return sign * (by || collator.compare(a.name, b.name));
    });
}
