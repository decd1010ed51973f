//! Packing: one walk that counts, one that writes.

use super::super::content;
use super::super::tree::{Tree, named};
use super::digest::{Digest, Line};
use super::mounts::Mounts;
use super::sparse::{self, Piece};
use super::stream::Packer;
use super::walk::{Found, walk};
use super::{ENTRIES_MAX, MANIFEST, MANIFEST_BYTES_MAX, MODE_BITS, TREES, Told};
use crate::tar::{BLOCK_BYTES, Head, attribute, padding, record};
use rustix::fs::{FileType, Mode, OFlags, Stat, openat, readlinkat};
use rustix::io::pread;
use serde_json::{Map, Value};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const PIECE_BYTES: usize = 128 * 1024;

/// Writes the archive of two trees; `about` is the server's part of the manifest, a JSON object.
pub fn pack(about: impl Read, root: &Path, home: &Path, digest: &mut Digest, to: impl Write) -> io::Result<()> {
    let mut manifest: Map<String, Value> = serde_json::from_reader(about.take(MANIFEST_BYTES_MAX))?;
    let trees = [(Tree::open(root)?, Mounts::of_packed(root, home)?), (Tree::open(home)?, Mounts::below(home, root)?)];
    for (name, (tree, mounts)) in TREES.into_iter().zip(&trees) {
        manifest.insert(name.into(), serde_json::to_value(count(tree, mounts)?)?);
    }
    let mut to = Packer::new(to)?;
    let manifest = serde_json::to_vec(&manifest)?;
    let mut out = Vec::new();
    let size = manifest.len() as u64;
    let head = Head { name: MANIFEST.as_bytes(), kind: b'0', mode: 0o644, uid: 0, gid: 0, size, mtime: 0, target: b"" };
    head.write(Vec::new(), &mut out);
    out.extend_from_slice(&manifest);
    out.resize(out.len() + padding(size), 0);
    to.put(&out)?;
    for (name, (tree, mounts)) in TREES.into_iter().zip(&trees) {
        tree.forget();
        let mut writer = Writer { to: &mut to, digest: &mut *digest, tree: name, piece: vec![0; PIECE_BYTES] };
        walk(tree, mounts, |found| writer.entry(found))?;
    }
    to.put(&[0; 2 * BLOCK_BYTES])?;
    to.finish()
}

fn count(tree: &Tree, mounts: &Mounts) -> io::Result<Told> {
    let mut told = Told::default();
    walk(tree, mounts, |found| {
        told.entries += 1;
        if told.entries > ENTRIES_MAX {
            return Err(io::Error::other(format!("there are more than {ENTRIES_MAX} files")));
        }
        if found.kind == FileType::RegularFile && found.first.is_none() {
            let size = found.stat.st_size.cast_unsigned();
            told.size = told.size.saturating_add(size);
            told.bytes += if content::used_bytes(found.stat) == size {
                size
            } else {
                let pieces = sparse::pieces(&open(found)?, found.stat).map_err(|e| named(found.path, e))?;
                pieces.iter().map(|piece| piece.bytes).sum()
            };
        }
        Ok(())
    })?;
    Ok(told)
}

fn open(found: &Found<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(found.parent, found.name, flags, Mode::empty()).map_err(|e| named(found.path, e))
}

struct Writer<'a, W> {
    to: &'a mut Packer<W>,
    digest: &'a mut Digest,
    tree: &'static str,
    piece: Vec<u8>,
}

impl<W: Write> Writer<'_, W> {
    fn entry(&mut self, found: &Found<'_>) -> io::Result<()> {
        let mut records = Vec::new();
        times(found.stat, &mut records);
        match (found.kind, found.first) {
            (_, Some(first)) => {
                self.tell(found, b'1', first.as_os_str().as_bytes(), &[]);
                let target = self.name(first);
                self.head(found, b'1', 0, &target, Vec::new())
            }
            (FileType::RegularFile, None) => self.file(found, records),
            (FileType::Directory, None) => {
                let attributes = attributes(&open(found)?, &mut records).map_err(|e| named(found.path, e))?;
                self.tell(found, b'5', b"", &attributes);
                self.head(found, b'5', 0, b"", records)
            }
            (FileType::Symlink, None) => {
                let target = readlinkat(found.parent, found.name, Vec::new()).map_err(|e| named(found.path, e))?;
                self.tell(found, b'2', target.as_bytes(), &[]);
                self.head(found, b'2', 0, target.as_bytes(), records)
            }
            (kind, None) => {
                let kind = if kind == FileType::CharacterDevice { b'3' } else { b'6' };
                self.tell(found, kind, b"", &[]);
                self.head(found, kind, 0, b"", records)
            }
        }
    }

    fn tell(&mut self, found: &Found<'_>, kind: u8, target: &[u8], attributes: &[(Vec<u8>, Vec<u8>)]) {
        let stat = found.stat;
        self.digest.entry(&Line {
            tree: self.tree,
            kind,
            path: found.path.as_os_str().as_bytes(),
            mode: stat.st_mode & MODE_BITS,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as _),
            target,
            attributes,
        });
    }

    fn name(&self, path: &Path) -> Vec<u8> {
        let mut name = self.tree.as_bytes().to_vec();
        if !path.as_os_str().is_empty() {
            name.push(b'/');
            name.extend_from_slice(path.as_os_str().as_bytes());
        }
        name
    }

    fn head(&mut self, found: &Found<'_>, kind: u8, size: u64, target: &[u8], records: Vec<u8>) -> io::Result<()> {
        let mut name = self.name(found.path);
        if kind == b'5' {
            name.push(b'/');
        }
        let (stat, mut out) = (found.stat, Vec::new());
        let head = Head {
            name: &name,
            kind,
            mode: stat.st_mode & MODE_BITS,
            uid: stat.st_uid.into(),
            gid: stat.st_gid.into(),
            size,
            mtime: stat.st_mtime,
            target,
        };
        head.write(records, &mut out);
        self.to.put(&out)
    }

    fn file(&mut self, found: &Found<'_>, mut records: Vec<u8>) -> io::Result<()> {
        let file = open(found)?;
        let attributes = attributes(&file, &mut records).map_err(|e| named(found.path, e))?;
        self.tell(found, b'0', b"", &attributes);
        let pieces = sparse::pieces(&file, found.stat).map_err(|e| named(found.path, e))?;
        let size = found.stat.st_size.cast_unsigned();
        let stored: u64 = pieces.iter().map(|piece| piece.bytes).sum();
        self.digest.file(size, (stored != size).then_some(&pieces));
        if stored == size {
            self.head(found, b'0', size, b"", records)?;
            self.content(found, &file, &pieces)?;
            return self.to.put(&[0; BLOCK_BYTES][..padding(size)]);
        }
        let list = sparse::list(&pieces);
        let name = self.name(found.path);
        let realsize = size.to_string();
        for (key, value) in
            [("major", b"1".as_slice()), ("minor", b"0"), ("name", &name), ("realsize", realsize.as_bytes())]
        {
            record(&mut records, format!("GNU.sparse.{key}").as_bytes(), value);
        }
        let stored = stored + list.len() as u64;
        self.head(found, b'0', stored, b"", records)?;
        self.to.put(&list)?;
        self.content(found, &file, &pieces)?;
        self.to.put(&[0; BLOCK_BYTES][..padding(stored)])
    }

    fn content(&mut self, found: &Found<'_>, file: &OwnedFd, pieces: &[Piece]) -> io::Result<()> {
        for &Piece { mut at, bytes } in pieces {
            let end = at + bytes;
            while at < end {
                let wanted = (end - at).min(PIECE_BYTES as u64) as usize;
                let count = rustix::io::retry_on_intr(|| pread(file, &mut self.piece[..wanted], at));
                let count = count.map_err(|e| named(found.path, e))?;
                if count == 0 {
                    return Err(io::Error::other(format!("{}: it has become shorter", found.path.display())));
                }
                self.digest.content(&self.piece[..count]);
                self.to.put(&self.piece[..count])?;
                at += count as u64;
            }
        }
        Ok(())
    }
}

/// Whole seconds since 1970 fit into a header; what else there is becomes a decimal number.
fn times(stat: &Stat, records: &mut Vec<u8>) {
    let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
    if nanoseconds == 0 && seconds >= 0 {
        return;
    }
    let value = if seconds < 0 && nanoseconds > 0 {
        format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    };
    record(records, b"mtime", value.as_bytes());
}

fn attributes(file: &OwnedFd, records: &mut Vec<u8>) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in content::extended_names(file)? {
        let Some(value) = content::extended(file, &name)? else { continue };
        attribute(records, &name, &value);
        found.push((name, value));
    }
    Ok(found)
}
