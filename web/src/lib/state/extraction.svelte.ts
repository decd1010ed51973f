// Archives being extracted into workspaces. One that lies in a workspace comes to the browser and goes back, as the
// server extracts what it is sent; one on the user's disk is sent as it is. Outlives the view that began it.

import { files } from '../api/files';
import { ApiError } from '../api/request';
import type { Archive } from '../files/archives';
import { commandFor, held, HELD_BYTES_MAX, TooLarge } from '../files/archives';
import { baseName } from '../files/paths';
import { bytes } from '../format';
import { randomUuid } from '../terminal/client-id';
import { signedOut } from './session.svelte';
import { toasts } from './toasts.svelte';

export class Extraction {
  /** What goes on now. */
  step = $state<'fetching' | 'extracting'>('extracting');
  readonly id = randomUuid();
  readonly stop = new AbortController();

  constructor(
    readonly workspace: string,
    readonly name: string,
    readonly into: string,
  ) {}
}

class Extractions {
  list = $state.raw<Extraction[]>([]);

  /** An archive that lies in the workspace. */
  async here(workspace: string, path: string, size: number, archive: Archive, into: string): Promise<void> {
    await this.#run(workspace, baseName(path), into, archive, async (extraction) => {
      if (size > HELD_BYTES_MAX) throw new TooLarge();
      extraction.step = 'fetching';
      return files.stream(workspace, path, extraction.stop.signal);
    });
  }

  /** An archive on the user's own disk. */
  async upload(workspace: string, file: File, archive: Archive, into: string): Promise<void> {
    await this.#run(workspace, file.name, into, archive, () => Promise.resolve(file));
  }

  async #run(workspace: string, name: string, into: string, archive: Archive, source: (extraction: Extraction) => Promise<Blob | ReadableStream<Uint8Array<ArrayBuffer>>>): Promise<void> {
    const extraction = new Extraction(workspace, name, into);
    this.list = [...this.list, extraction];
    try {
      const body = await whole(await source(extraction), archive);
      extraction.step = 'extracting';
      const made = await files.extract(workspace, into, archive.format, body, extraction.stop.signal);
      toasts.settle(faultTitle(name));
      toasts.good(`${name} is extracted`, `${made.files.toLocaleString()} ${made.files === 1 ? 'file' : 'files'}, ${bytes(made.bytes)}, in ${into}`);
    } catch (error) {
      if (!extraction.stop.signal.aborted && !signedOut(error)) tell(name, archive, error);
    } finally {
      this.list = this.list.filter((other) => other !== extraction);
    }
  }
}

async function whole(source: Blob | ReadableStream<Uint8Array<ArrayBuffer>>, { gzip }: Archive): Promise<Blob> {
  if (source instanceof Blob && !gzip) return source;
  const stream = source instanceof Blob ? (source.stream() as ReadableStream<Uint8Array<ArrayBuffer>>) : source;
  return held(gzip ? stream.pipeThrough(new DecompressionStream('gzip')) : stream, HELD_BYTES_MAX);
}

const faultTitle = (name: string): string => `${name} was not extracted`;

function tell(name: string, archive: Archive, error: unknown): void {
  const title = faultTitle(name);
  if (error instanceof ApiError) toasts.failed(title, error);
  else if (error instanceof TooLarge) toasts.bad(title, `The page extracts up to ${bytes(HELD_BYTES_MAX)}. In a terminal, in its folder: ${commandFor(name, archive)}`);
  else if (archive.gzip && error instanceof TypeError) toasts.bad(title, 'It could not be read: it is cut off, or it is no gzip.');
  else toasts.bad(title, 'It could not be read. Try again.');
}

export const extractions = new Extractions();
