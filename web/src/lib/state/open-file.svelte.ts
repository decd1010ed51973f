// A file that the page shows. A save is refused when the file was changed meanwhile, until the user has
// decided; what was typed is kept while the page is open.

import { files } from '../api/files';
import { ApiError } from '../api/request';
import type { FileInfo } from '../api/types';
import { drafts } from '../files/drafts';
import type { Editor } from '../files/editor';
import { bytesMax, imageType, textOf, type Text } from '../files/kinds';
import { baseName } from '../files/paths';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

export type Content = { kind: 'text'; text: Text } | { kind: 'image'; url: string } | { kind: 'bytes' };

export class OpenFile {
  content = $state.raw<Content>();
  size = $state(0);
  fault = $state.raw<ApiError>();
  dirty = $state(false);
  saving = $state(false);
  /** The file is another one than the one that was read. */
  conflict = $state<'changed' | 'gone'>();
  readonly name: string;
  /** What the file held when it was read or written last. */
  #etag = '';
  #editor: Editor | undefined;
  readonly #draftKey: string;
  readonly #ended = new AbortController();

  constructor(
    private readonly workspace: string,
    private readonly path: string,
  ) {
    this.name = baseName(path);
    this.#draftKey = `${workspace} ${path}`;
  }

  async load(): Promise<void> {
    const { signal } = this.#ended;
    try {
      const read = await files.read(this.workspace, this.path, bytesMax, signal);
      this.fault = undefined;
      this.conflict = undefined;
      this.#etag = read.etag;
      this.size = read.size;
      this.#show(read.bytes);
    } catch (error) {
      if (!signal.aborted && !signedOut(error) && error instanceof ApiError) this.fault = error;
    }
  }

  close(): void {
    this.#ended.abort();
    if (this.content?.kind === 'image') URL.revokeObjectURL(this.content.url);
  }

  #show(read: ArrayBuffer | undefined): void {
    const type = imageType(this.name);
    if (this.content?.kind === 'image') URL.revokeObjectURL(this.content.url);
    if (read && type) {
      this.content = { kind: 'image', url: URL.createObjectURL(new Blob([read], { type })) };
      return;
    }
    const text = read && textOf(read);
    if (!text) this.content = { kind: 'bytes' };
    else if (this.#editor) this.#editor.replace(text.text);
    else this.content = { kind: 'text', text };
    this.dirty = false;
  }

  /** For the element that the editor goes into. */
  edit(text: Text): (host: HTMLElement) => () => void {
    return (host) => {
      let alive = true;
      void import('../files/editor').then(({ Editor }) => {
        if (alive) this.#begin(new Editor(host, this.name, this.#draft(text), `Text of ${this.name}`, {
          edited: () => (this.dirty = true),
          save: () => void this.save(),
        }));
      });
      return () => {
        alive = false;
        if (this.#editor && this.dirty) drafts.set(this.#draftKey, { text: this.#editor.text, etag: this.#etag });
        this.#editor?.destroy();
        this.#editor = undefined;
      };
    };
  }

  #draft(text: Text): Text {
    const draft = drafts.get(this.#draftKey);
    return draft ? { ...text, text: draft.text } : text;
  }

  #begin(editor: Editor): void {
    this.#editor = editor;
    const draft = drafts.get(this.#draftKey);
    if (draft) {
      this.dirty = true;
      if (draft.etag !== this.#etag) this.conflict = 'changed';
    }
    editor.focus();
  }

  /** Something happened to the file: a clean view follows it, an edited one says so. */
  async look(): Promise<void> {
    if (this.saving) return;
    const now = await this.#current().catch(() => this.#etag);
    if (now === this.#etag || this.saving) return;
    if (this.dirty) this.conflict = now === undefined ? 'gone' : 'changed';
    else if (now !== undefined) await this.load();
  }

  /** The etag of the file as it is now; nothing when it is gone. */
  async #current(): Promise<string | undefined> {
    try {
      return await files.etag(this.workspace, this.path);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  async save(how: 'unless changed' | 'whatever is there' = 'unless changed'): Promise<void> {
    if (!this.#editor || this.saving) return;
    this.saving = true;
    try {
      const { text } = this.#editor;
      const written = await this.#write(new Blob([text]), how === 'unless changed' ? this.#etag : '');
      if (!written) return;
      this.#etag = written.etag ?? '';
      this.size = written.size;
      this.conflict = undefined;
      drafts.delete(this.#draftKey);
      this.dirty = this.#editor?.text !== text;
    } catch (error) {
      if (!signedOut(error)) toasts.failed(`${this.name} was not saved`, error);
    } finally {
      this.saving = false;
    }
  }

  /** Nothing when the file is another one than the one that was read. */
  async #write(text: Blob, etag: string): Promise<FileInfo | undefined> {
    try {
      return await files.write(this.workspace, this.path, text, { etag });
    } catch (error) {
      // A workspace that runs since before an update knows no condition: then looking first has to do.
      const old = etag !== '' && error instanceof ApiError && error.code === 'workspace_state';
      if (!old && !(error instanceof ApiError && error.code === 'file_changed')) throw error;
      const now = await this.#current();
      if (old && now === etag) return files.write(this.workspace, this.path, text);
      this.conflict = now === undefined ? 'gone' : 'changed';
      return undefined;
    }
  }

  /** What is there instead of what was typed. */
  reload(): void {
    drafts.delete(this.#draftKey);
    void this.load();
  }
}
