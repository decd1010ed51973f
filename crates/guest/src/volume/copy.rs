//! A copy of a tree, in one pass or two, in which the second copies only what the first may have missed.
//!
//! An entry is passed over the second time if its inode, size and change time are as they were *before* it
//! was first read, and if that change lay far enough back that a later one must have another time.
//! Everything else is made anew, and what is gone is removed, so after a pass over a tree at rest the copy
//! is that tree. What vanishes during a pass is left out.
//!
//! Sockets and devices are left out always: the first mean nothing without their programs, the second are
//! not ours to make. A whiteout of an overlay is no device. So is what has come of an upload that is not whole:
//! nobody goes on with that in a copy.

use super::content::{self, is_whiteout, make_whiteout, settle, times, used_bytes};
use super::tree::{Tree, is_vanished, named, names, split};
use crate::files::is_part;
use rexec_api::guest::FILE_BYTES_MIN;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fstat, linkat, mkdirat, mkfifoat, openat,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Change times come from a clock that ticks 100 times a second at least; two changes within a tick look alike.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// Pages written through a memory map are on the disk after this, and the next write is noticed again: the
/// kernel's 30 s and a good deal for a busy disk.
const WRITTEN_BACK: Duration = Duration::from_secs(120);

/// What a copy came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Everything but directories, each name counted.
    pub files: u64,
    /// What they and the directories take up, each file counted once, and each as [`FILE_BYTES_MIN`] at the least.
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Another follows.
    First,
    Last,
}

/// What tells whether an entry has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: i64,
    changed: (i64, i64),
    /// A later change must have another time.
    is_settled: bool,
}

impl Stamp {
    fn of(stat: &Stat, now: SystemTime) -> Self {
        Self {
            inode: stat.st_ino as _,
            size: stat.st_size as _,
            changed: (stat.st_ctime as _, stat.st_ctime_nsec as _),
            is_settled: age(stat, now) > TICK,
        }
    }

    /// Whether an entry that now looks like `stat` is the one that was copied.
    fn is_still(&self, stat: &Stat) -> bool {
        let now = (stat.st_ino, stat.st_size, (stat.st_ctime, stat.st_ctime_nsec as i64));
        self.is_settled && (self.inode, self.size, self.changed) == now
    }
}

/// How long ago the last change was; nothing for a time in the future.
fn age(stat: &Stat, now: SystemTime) -> Duration {
    let changed = Duration::new(u64::try_from(stat.st_ctime).unwrap_or(0), stat.st_ctime_nsec as u32);
    now.duration_since(SystemTime::UNIX_EPOCH + changed).unwrap_or_default()
}

pub struct Copy {
    from: Tree,
    to: Tree,
    /// What the pass before has copied, by path.
    before: HashMap<PathBuf, Stamp>,
}

impl Copy {
    /// Clears `to`.
    pub fn open(from: &Path, to: &Path) -> io::Result<Self> {
        let copy = Self { from: Tree::open(from)?, to: Tree::open(to)?, before: HashMap::new() };
        copy.to.clear()?;
        Ok(copy)
    }

    pub fn pass(&mut self, pass: Pass) -> io::Result<Summary> {
        self.from.forget();
        let mut walk = Walk {
            from: &self.from,
            to: &self.to,
            before: std::mem::take(&mut self.before),
            after: (pass == Pass::First).then(HashMap::new),
            firsts: HashMap::new(),
            todo: vec![Work::Enter(PathBuf::new())],
            summary: Summary::default(),
        };
        while let Some(work) = walk.todo.pop() {
            match work {
                Work::Enter(path) => walk.enter(&path)?,
                Work::Leave(path, stat) => walk.leave(&path, &stat)?,
            }
        }
        self.before = walk.after.unwrap_or_default();
        Ok(walk.summary)
    }
}

enum Work {
    Enter(PathBuf),
    /// After everything in it: what is made in a directory changes its times.
    Leave(PathBuf, Box<Stat>),
}

struct Walk<'a> {
    from: &'a Tree,
    to: &'a Tree,
    before: HashMap<PathBuf, Stamp>,
    after: Option<HashMap<PathBuf, Stamp>>,
    /// The first name of every file with several, and the stamp of its content: what is linked to it is as old.
    firsts: HashMap<(u64, u64), (PathBuf, Stamp)>,
    todo: Vec<Work>,
    summary: Summary,
}

/// One entry on its way.
struct Entry<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    name: &'a OsStr,
    path: &'a Path,
}

impl Walk<'_> {
    fn enter(&mut self, path: &Path) -> io::Result<()> {
        let opened = self.from.directory(path).and_then(|from| Ok((fstat(&*from)?, names(&from)?, from)));
        let (stat, names_from, from) = match opened {
            Ok(opened) => opened,
            Err(error) if is_vanished(error) && !path.as_os_str().is_empty() => return self.to.remove(path),
            Err(error) => return Err(named(path, error)),
        };
        let to = self.to.directory(path).map_err(|e| named(path, e))?;
        self.todo.push(Work::Leave(path.to_owned(), Box::new(stat)));
        let wanted: HashSet<&OsStr> = names_from.iter().map(AsRef::as_ref).collect();
        for name in names(&to).map_err(|e| named(path, e))? {
            if !wanted.contains(name.as_os_str()) {
                self.to.remove(&path.join(name))?;
            }
        }
        for name in &names_from {
            let path = path.join(name);
            let entry = Entry { from: &from, to: &to, name, path: &path };
            match statat(&from, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.entry(&entry, &stat)?,
                Err(error) if is_vanished(error) => self.to.remove(&path)?,
                Err(error) => return Err(named(&path, error)),
            }
        }
        Ok(())
    }

    fn leave(&mut self, path: &Path, stat: &Stat) -> io::Result<()> {
        let to = self.to.directory(path).map_err(|e| named(path, e))?;
        match self.from.directory(path) {
            Ok(from) => content::copy_attributes(&from, &to, stat).map_err(|e| named(path, e)),
            Err(error) if is_vanished(error) => Ok(()),
            Err(error) => Err(named(path, error)),
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.directory(entry);
        }
        if kind == FileType::RegularFile && is_part(entry.name.as_bytes()) {
            return self.to.remove(entry.path);
        }
        let before = self.before.remove(entry.path).filter(|before| before.is_still(stat));
        let copied = match (before, kind) {
            (Some(stamp), _) => Ok(Some((*stat, stamp))),
            (None, _) if self.is_linked(stat) => self.link(entry, stat).map(Some),
            (None, FileType::RegularFile) => self.file(entry),
            (None, FileType::Symlink | FileType::Fifo) => self.special(entry, stat, kind).map(Some),
            (None, FileType::CharacterDevice) if is_whiteout(stat) => self.special(entry, stat, kind).map(Some),
            (None, _) => return self.to.remove(entry.path),
        };
        match copied {
            Ok(Some((stat, stamp))) => {
                self.count(entry, &stat, stamp);
                Ok(())
            }
            Ok(None) => self.to.remove(entry.path),
            Err(Failure::At(error)) if is_vanished(error) => self.to.remove(entry.path),
            Err(Failure::At(error)) => Err(named(entry.path, error)),
            Err(Failure::Told(error)) => Err(error),
        }
    }

    fn directory(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        match mkdirat(entry.to, entry.name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = statat(entry.to, entry.name, AtFlags::SYMLINK_NOFOLLOW);
                if !there.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                    self.to.remove(entry.path)?;
                    mkdirat(entry.to, entry.name, Mode::RWXU).map_err(|e| named(entry.path, e))?;
                }
            }
            Err(error) => return Err(named(entry.path, error)),
        }
        self.summary.bytes += FILE_BYTES_MIN;
        self.todo.push(Work::Enter(entry.path.to_owned()));
        Ok(())
    }

    fn count(&mut self, entry: &Entry<'_>, stat: &Stat, stamp: Stamp) {
        let is_first = stat.st_nlink <= 1 || {
            let known = self.firsts.len();
            self.firsts.entry(identity(stat)).or_insert_with(|| (entry.path.to_owned(), stamp));
            self.firsts.len() > known
        };
        self.summary.files += 1;
        if is_first {
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            self.summary.bytes += if is_file { used_bytes(stat).max(FILE_BYTES_MIN) } else { FILE_BYTES_MIN };
        }
        if let Some(after) = &mut self.after {
            after.insert(entry.path.to_owned(), stamp);
        }
    }

    /// Whether it is another name of what has been copied.
    fn is_linked(&self, stat: &Stat) -> bool {
        stat.st_nlink > 1 && self.firsts.contains_key(&identity(stat))
    }

    fn link(&self, entry: &Entry<'_>, stat: &Stat) -> Result<(Stat, Stamp), Failure> {
        let (first, stamp) = self.firsts.get(&identity(stat)).ok_or(Errno::NOENT)?;
        let (parent, name) = split(first);
        let parent = self.to.directory(parent)?;
        self.make(entry, || linkat(&parent, name, entry.to, entry.name, AtFlags::empty()))?;
        Ok((*stat, *stamp))
    }

    /// `None` when it is no regular file any more.
    fn file(&self, entry: &Entry<'_>) -> Result<Option<(Stat, Stamp)>, Failure> {
        // Opening a pipe that has taken its place must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let from = openat(entry.from, entry.name, flags, Mode::empty())?;
        if self.after.is_some() && age(&fstat(&from)?, SystemTime::now()) < WRITTEN_BACK {
            settle(&from);
        }
        let stat = fstat(&from)?;
        let stamp = Stamp::of(&stat, SystemTime::now());
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = self.make(entry, || openat(entry.to, entry.name, flags, Mode::RUSR | Mode::WUSR))?;
        content::copy(&from, &to, &stat)?;
        content::copy_attributes(&from, &to, &stat)?;
        Ok(Some((stat, stamp)))
    }

    fn special(&self, entry: &Entry<'_>, stat: &Stat, kind: FileType) -> Result<(Stat, Stamp), Failure> {
        let stamp = Stamp::of(stat, SystemTime::now());
        let mode = Mode::from_raw_mode(stat.st_mode);
        if kind == FileType::Symlink {
            let target = readlinkat(entry.from, entry.name, Vec::new())?;
            self.make(entry, || symlinkat(&*target, entry.to, entry.name))?;
        } else if kind == FileType::Fifo {
            self.make(entry, || mkfifoat(entry.to, entry.name, mode))?;
        } else {
            self.make(entry, || make_whiteout(entry.to, entry.name, mode))?;
        }
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(entry.to, entry.name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            chmodat(entry.to, entry.name, mode, AtFlags::empty())?;
        }
        utimensat(entry.to, entry.name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((*stat, stamp))
    }

    /// Makes an entry of the target, in the place of what the pass before has left there.
    fn make<T>(&self, entry: &Entry<'_>, make: impl Fn() -> Result<T, Errno>) -> Result<T, Failure> {
        match make() {
            Err(Errno::EXIST) => {
                self.to.remove(entry.path).map_err(Failure::Told)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }
}

/// Why an entry was not copied.
enum Failure {
    At(Errno),
    /// Names its path already.
    Told(io::Error),
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::At(error)
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as _, stat.st_ino as _)
}
