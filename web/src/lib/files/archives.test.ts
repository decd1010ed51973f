import { expect, test } from 'vitest';
import { archiveOf, commandFor, held, TooLarge } from './archives';

test('an archive is known by its name', () => {
  expect(archiveOf('site.zip')).toEqual({ format: 'zip', gzip: false, stem: 'site' });
  expect(archiveOf('Site.v1.TAR.GZ')).toEqual({ format: 'tar', gzip: true, stem: 'Site.v1' });
  expect(archiveOf('a.tgz')?.gzip).toBe(true);
  expect(archiveOf('a.tar')).toEqual({ format: 'tar', gzip: false, stem: 'a' });
  expect(archiveOf('a.tar.zst')).toEqual({ format: 'tar.zst', gzip: false, stem: 'a' });
  expect(['notes.txt', 'data.zst', 'data.gz', '.zip', 'zip', 'a.7z'].map(archiveOf)).toEqual(Array(6).fill(undefined));
});

test('the way round the page is a command that can be pasted', () => {
  expect(commandFor("it's.zip", archiveOf("it's.zip")!)).toBe(`unzip ./'it'\\''s.zip'`);
  expect(commandFor('-x.tgz', archiveOf('-x.tgz')!)).toBe(`tar -xf ./'-x.tgz'`);
});

test('a stream is held up to its bound, and not beyond', async () => {
  const bytes = new Uint8Array(100);
  expect((await held(new Blob([bytes]).stream(), 100)).size).toBe(100);
  await expect(held(new Blob([bytes]).stream(), 99)).rejects.toBeInstanceOf(TooLarge);
});
