//! Unpacking: what the archive says is judged and counted before anything is made of it.

use super::super::tree::Tree;
use super::digest::{Digest, Line};
use super::make::{Entry, Maker};
use super::mounts::Mounts;
use super::sparse::{Numbers, Piece};
use super::stream::Unpacker;
use super::{ENTRIES_MAX, MANIFEST, MANIFEST_BYTES_MAX, MODE_BITS, TREES, Told};
use crate::files::check;
use crate::tar::{BLOCK_BYTES, Header, Records, attribute_of, padding};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::path::Path;

/// Records of one entry: attributes may have 64 KiB each.
const RECORDS_BYTES_MAX: u64 = 1 << 20;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is not one of ours, or damaged.
    #[error("{0}")]
    Invalid(String),
    /// It holds more than it says, or than there is room for.
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Refused {
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }

    /// About one entry.
    pub fn entry(name: &[u8], what: &str) -> Self {
        Self::Invalid(format!("the entry {:?} {what}", String::from_utf8_lossy(name)))
    }
}

/// Unpacks into two trees. Says the manifest in a line as soon as it has come, before anything is made.
pub fn unpack(
    from: impl Read,
    root: &Path,
    home: &Path,
    digest: &mut Digest,
    mut say: impl Write,
) -> Result<[Told; 2], Refused> {
    let mut reader = Reader { from: Unpacker::new(from)?, digest };
    let manifest = reader.manifest()?;
    let told = TREES.map(|tree| serde_json::from_value::<Told>(manifest[tree].clone()));
    let [Ok(root_told), Ok(home_told)] = told else {
        return Err(Refused::invalid("its manifest does not say what it holds"));
    };
    let told = [root_told, home_told];
    if told.iter().any(|tree| tree.entries > ENTRIES_MAX) {
        return Err(Refused::TooLarge(format!("it has more than {ENTRIES_MAX} entries")));
    }
    let trees = [(root, Mounts::below(root, home)?), (home, Mounts::below(home, root)?)];
    require_space(root, root_told.size)?;
    require_space(home, home_told.bytes)?;
    writeln!(say, "{manifest}")?;
    say.flush()?;
    let mut next = reader.entry()?;
    for (((path, mounts), told), name) in trees.into_iter().zip(&told).zip(TREES) {
        let mut maker = Maker::new(Tree::open(path)?, mounts);
        next = reader.tree(name, *told, next, &mut maker)?;
        maker.finish()?;
    }
    if next.is_some() {
        return Err(Refused::invalid("something follows its trees"));
    }
    reader.from.finish()?;
    Ok(told)
}

fn require_space(path: &Path, wanted: u64) -> Result<(), Refused> {
    let space = rustix::fs::statvfs(path).map_err(io::Error::from)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    if wanted > check::bytes_max(bytes(space.f_blocks), bytes(space.f_bavail)) {
        return Err(Refused::TooLarge("it has more bytes than the host's disk has room for".into()));
    }
    Ok(())
}

/// What the records before a header have said.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, i64)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file's own size and name, of one with holes.
    sparse: Option<u64>,
    sparse_name: Option<Vec<u8>>,
}

/// An entry's head, and how many bytes follow it.
struct Next {
    entry: Entry,
    kind: u8,
    /// Should it be a device.
    is_whiteout: bool,
    name: Vec<u8>,
    stored: u64,
    sparse: Option<u64>,
}

struct Reader<'a, R> {
    from: Unpacker<R>,
    digest: &'a mut Digest,
}

impl<R: Read> Reader<'_, R> {
    fn block(&mut self) -> Result<[u8; BLOCK_BYTES], Refused> {
        let mut block = [0; BLOCK_BYTES];
        let mut at = 0;
        self.bytes(BLOCK_BYTES as u64, |bytes| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            Ok(())
        })?;
        Ok(block)
    }

    fn bytes(&mut self, mut left: u64, mut take: impl FnMut(&[u8]) -> Result<(), Refused>) -> Result<(), Refused> {
        while left > 0 {
            let bytes = self.from.next(left)?;
            if bytes.is_empty() {
                return Err(Refused::invalid("it ends too early"));
            }
            left -= bytes.len() as u64;
            take(bytes)?;
        }
        Ok(())
    }

    /// Content of so many bytes, kept, and the zeroes after it.
    fn kept(&mut self, size: u64) -> Result<Vec<u8>, Refused> {
        let mut kept = Vec::new();
        self.bytes(size, |bytes| {
            kept.extend_from_slice(bytes);
            Ok(())
        })?;
        self.bytes(padding(size) as u64, |_| Ok(()))?;
        Ok(kept)
    }

    fn manifest(&mut self) -> Result<Value, Refused> {
        let head = Header::read(&self.block()?).map_err(Refused::invalid)?;
        if head.name != MANIFEST.as_bytes() || head.kind != b'0' || head.size > MANIFEST_BYTES_MAX {
            return Err(Refused::invalid("it does not begin with a manifest"));
        }
        let text = self.kept(head.size)?;
        serde_json::from_slice(&text).map_err(|_| Refused::invalid("its manifest is not JSON"))
    }

    /// The next entry's head; `None` at the end.
    fn entry(&mut self) -> Result<Option<Next>, Refused> {
        let mut said = Said::default();
        loop {
            let block = self.block()?;
            if block == [0; BLOCK_BYTES] {
                if self.block()? != [0; BLOCK_BYTES] {
                    return Err(Refused::invalid("its end is not that of a tar"));
                }
                return Ok(None);
            }
            let head = Header::read(&block).map_err(Refused::invalid)?;
            if head.kind != b'x' {
                return said.of(head).map(Some);
            }
            if head.size > RECORDS_BYTES_MAX {
                return Err(Refused::invalid("it has records of more than a MiB"));
            }
            said.read(&self.kept(head.size)?)?;
        }
    }

    /// Makes all entries of a tree; gives the first that is not one of it.
    fn tree(
        &mut self,
        tree: &'static str,
        told: Told,
        mut next: Option<Next>,
        maker: &mut Maker,
    ) -> Result<Option<Next>, Refused> {
        let mut left = told;
        while let Some(Next { mut entry, kind, is_whiteout, name, stored, sparse }) = next {
            let Some(inside) = within(tree, &name) else {
                next = Some(Next { entry, kind, is_whiteout, name, stored, sparse });
                break;
            };
            let parts = check::parts(inside).map_err(|what| Refused::entry(&name, what))?;
            if parts.join(&b'/') != inside.strip_suffix(b"/").unwrap_or(inside) || (parts.is_empty() != (left == told))
            {
                return Err(Refused::entry(&name, "is not where it should be"));
            }
            entry.path = path_of(&parts.join(&b'/')).to_owned();
            let more = "is more than the manifest tells of";
            left.entries = left.entries.checked_sub(1).ok_or_else(|| Refused::entry(&name, more))?;
            if kind != b'1' {
                self.tell(tree, kind, &entry);
            }
            match kind {
                b'0' => {
                    let pieces = self.pieces(&name, stored, sparse)?;
                    let bytes = pieces.iter().map(|piece| piece.bytes).sum();
                    let size = sparse.unwrap_or(stored);
                    let (Some(bytes), Some(size_left)) = (left.bytes.checked_sub(bytes), left.size.checked_sub(size))
                    else {
                        let name = String::from_utf8_lossy(&name);
                        return Err(Refused::TooLarge(format!("the entry {name:?} {more}")));
                    };
                    (left.bytes, left.size) = (bytes, size_left);
                    self.digest.file(size, sparse.is_some().then_some(&pieces));
                    self.file(&entry, size, &pieces, maker)?;
                    self.bytes(padding(stored) as u64, |_| Ok(()))?;
                }
                b'1' => {
                    let target = within(tree, &entry.target).unwrap_or(b"..");
                    let target = check::parts(target).map_err(|what| Refused::entry(&name, what))?;
                    entry.target = target.join(&b'/');
                    self.tell(tree, kind, &entry);
                    maker.link(&entry, path_of(&entry.target))?;
                }
                b'2' => {
                    check::target(&entry.target).map_err(|what| Refused::entry(&name, what))?;
                    maker.symlink(&entry)?;
                }
                b'5' => maker.directory(entry)?,
                b'6' => maker.fifo(&entry)?,
                b'3' if is_whiteout => maker.whiteout(&entry)?,
                b'3' | b'4' => return Err(Refused::entry(&name, "is a device")),
                _ => return Err(Refused::entry(&name, "is of an unknown kind")),
            }
            next = self.entry()?;
        }
        if left != Told::default() {
            return Err(Refused::invalid(format!("there is less of {tree} than its manifest tells of")));
        }
        Ok(next)
    }

    fn tell(&mut self, tree: &str, kind: u8, entry: &Entry) {
        use std::os::unix::ffi::OsStrExt;
        self.digest.entry(&Line {
            tree,
            kind,
            path: entry.path.as_os_str().as_bytes(),
            mode: entry.mode & MODE_BITS,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            target: &entry.target,
            attributes: &entry.attributes,
        });
    }

    /// What of a file is content: by the list before it, if it has holes.
    fn pieces(&mut self, name: &[u8], stored: u64, sparse: Option<u64>) -> Result<Vec<Piece>, Refused> {
        let Some(size) = sparse else {
            return Ok(vec![Piece { at: 0, bytes: stored }]);
        };
        if size > i64::MAX as u64 {
            return Err(Refused::entry(name, "is larger than any file"));
        }
        let mut numbers = Numbers::new();
        let mut listed = 0;
        loop {
            listed += BLOCK_BYTES as u64;
            if listed > stored {
                return Err(Refused::entry(name, "is not sparse as GNU tar has it"));
            }
            let block = self.block()?;
            let Some(pieces) = numbers.take(&block, size).map_err(|what| Refused::entry(name, what))? else { continue };
            if pieces.iter().map(|piece| piece.bytes).sum::<u64>() != stored - listed {
                return Err(Refused::entry(name, "is not sparse as GNU tar has it"));
            }
            return Ok(pieces);
        }
    }

    fn file(&mut self, entry: &Entry, size: u64, pieces: &[Piece], maker: &mut Maker) -> Result<(), Refused> {
        let mut file = maker.file(entry, size)?;
        for piece in pieces {
            let (mut at, mut left) = (piece.at, piece.bytes);
            while left > 0 {
                let bytes = self.from.next(left)?;
                if bytes.is_empty() {
                    return Err(Refused::invalid("it ends too early"));
                }
                self.digest.content(bytes);
                file.write(bytes, at)?;
                at += bytes.len() as u64;
                left -= bytes.len() as u64;
            }
        }
        file.close(entry)
    }
}

/// A name within a tree; empty for the tree itself.
fn within<'a>(tree: &str, name: &'a [u8]) -> Option<&'a [u8]> {
    name.strip_prefix(tree.as_bytes())?.strip_prefix(b"/")
}

fn path_of(name: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(name))
}

impl Said {
    fn read(&mut self, records: &[u8]) -> Result<(), Refused> {
        for record in Records(records) {
            let (key, value) = record.map_err(Refused::invalid)?;
            let wrong = || Refused::invalid("one of its records cannot be read");
            let number = || std::str::from_utf8(value).ok().and_then(|n| n.parse::<u64>().ok()).ok_or_else(wrong);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
                b"hdrcharset" => {}
                b"GNU.sparse.major" | b"GNU.sparse.minor" => {}
                b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
                b"GNU.sparse.realsize" => self.sparse = Some(number()?),
                _ => match attribute_of(key) {
                    Some(name) => self.attributes.push((name, value.to_vec())),
                    None => return Err(Refused::invalid("it has records that no archive of ours has")),
                },
            }
        }
        Ok(())
    }

    fn of(self, head: Header) -> Result<Next, Refused> {
        let mut name = self.sparse_name.or(self.path).unwrap_or(head.name);
        if head.kind != b'5' && name.ends_with(b"/") {
            return Err(Refused::entry(&name, "is not where it should be"));
        }
        let id = |said: Option<u64>, head: u64| u32::try_from(said.unwrap_or(head)).ok().filter(|&id| id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(self.uid, head.uid), id(self.gid, head.gid)) else {
            return Err(Refused::entry(&name, "has an owner that cannot be"));
        };
        if head.kind == b'5' && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let entry = Entry {
            path: Path::new("").to_owned(),
            mode: head.mode,
            uid,
            gid,
            mtime: self.mtime.unwrap_or((head.mtime.unwrap_or(0), 0)),
            target: self.target.unwrap_or(head.target),
            attributes: self.attributes,
        };
        let stored = self.size.unwrap_or(head.size);
        if head.kind != b'0' && stored > 0 {
            return Err(Refused::entry(&name, "has content and is no file"));
        }
        let is_whiteout = head.kind == b'3' && head.device == Some((0, 0));
        Ok(Next { entry, kind: head.kind, is_whiteout, name, stored, sparse: self.sparse })
    }
}

/// A decimal number of seconds as the kernel tells it: nanoseconds count on from a second, before 1970, too.
fn time(value: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok().filter(|n| *n >= 0)?;
    let seconds: i64 = whole.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}
