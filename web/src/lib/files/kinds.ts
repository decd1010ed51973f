// What a file is, by its name and its first look: how it is shown, and in which language.

import type { FileInfo } from '../api/types';

/** What the editor takes; beyond it, a terminal is the better place. */
const TEXT_BYTES_MAX = 2 * 1024 * 1024;
const IMAGE_BYTES_MAX = 32 * 1024 * 1024;

const IMAGES: Record<string, string> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  webp: 'image/webp',
  avif: 'image/avif',
  bmp: 'image/bmp',
  ico: 'image/x-icon',
  // As an image, an SVG runs no script and loads nothing.
  svg: 'image/svg+xml',
};

export function extension(name: string): string {
  const at = name.lastIndexOf('.');
  return at < 0 ? '' : name.slice(at + 1).toLowerCase();
}

/** The media type of an image that browsers draw. */
export function imageType(name: string): string | undefined {
  return IMAGES[extension(name)];
}

/** How much of a file of this name is shown. */
export function bytesMax(name: string): number {
  return imageType(name) ? IMAGE_BYTES_MAX : TEXT_BYTES_MAX;
}

export interface Text {
  text: string;
  /** How its lines end, so that saving changes no line that was not edited. */
  ending: '\n' | '\r\n';
}

/** The text of a file, or nothing when it is none: bytes that are not UTF-8 would not survive a save. */
export function textOf(bytes: ArrayBuffer): Text | undefined {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
  if (text.includes('\0')) return undefined;
  const breaks = text.match(/\r?\n/g) ?? [];
  const windows = breaks.length > 0 && breaks.every((one) => one === '\r\n');
  return { text, ending: windows ? '\r\n' : '\n' };
}

export type Look = 'folder' | 'image' | 'code' | 'archive' | 'link' | 'other' | 'file';

const CODE = new Set('js mjs cjs ts tsx jsx py rs go c h cc cpp hpp java rb php sh bash zsh sql css scss html svelte vue json toml yaml yml md'.split(' '));
const ARCHIVES = new Set('zip tar gz tgz zst xz bz2 7z deb rpm jar whl'.split(' '));

export function look(info: Pick<FileInfo, 'kind' | 'name'>): Look {
  if (info.kind === 'directory') return 'folder';
  if (info.kind === 'symlink') return 'link';
  if (info.kind === 'other') return 'other';
  if (imageType(info.name)) return 'image';
  const end = extension(info.name);
  return CODE.has(end) ? 'code' : ARCHIVES.has(end) ? 'archive' : 'file';
}
