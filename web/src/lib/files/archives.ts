// Which files can be extracted, and as what. The server takes zip, tar and tar.zst; of a tar in gzip the browser takes
// the gzip off first.

export type ExtractFormat = 'zip' | 'tar' | 'tar.zst';

export interface Archive {
  /** How the server is told to read it. */
  format: ExtractFormat;
  /** The browser takes gzip off before it is sent. */
  gzip: boolean;
  /** The name without its ending, for a folder of its own. */
  stem: string;
}

const ENDINGS: { ending: string; format: ExtractFormat; gzip: boolean }[] = [
  { ending: '.tar.zst', format: 'tar.zst', gzip: false },
  { ending: '.tzst', format: 'tar.zst', gzip: false },
  { ending: '.tar.gz', format: 'tar', gzip: true },
  { ending: '.tgz', format: 'tar', gzip: true },
  { ending: '.tar', format: 'tar', gzip: false },
  { ending: '.zip', format: 'zip', gzip: false },
];

/** For a file picker. */
export const ARCHIVE_ENDINGS = '.zip,.tar,.tgz,.gz,.tzst,.zst';

/** What a browser holds of an archive that it fetches or unpacks on the way: beyond it, a terminal is the better place. */
export const HELD_BYTES_MAX = 512 * 1024 * 1024;

/** How a file of this name is extracted, or nothing when it is no archive that can be. */
export function archiveOf(name: string): Archive | undefined {
  const lower = name.toLowerCase();
  const found = ENDINGS.find(({ ending }) => lower.endsWith(ending) && lower.length > ending.length);
  return found && { format: found.format, gzip: found.gzip, stem: name.slice(0, -found.ending.length) };
}

/** The command that does in a terminal what is too large for the page. */
export function commandFor(name: string, { format }: Archive): string {
  const quoted = `'${name.replaceAll("'", `'\\''`)}'`;
  return format === 'zip' ? `unzip ./${quoted}` : `tar -xf ./${quoted}`;
}

/** More came than is held. */
export class TooLarge extends Error {}

/** All of a stream, as long as it is no more than `max`. */
export async function held(stream: ReadableStream<Uint8Array<ArrayBuffer>>, max: number): Promise<Blob> {
  let count = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(piece, out) {
      count += piece.byteLength;
      if (count > max) throw new TooLarge();
      out.enqueue(piece);
    },
  });
  return new Response(stream.pipeThrough(counted)).blob();
}
