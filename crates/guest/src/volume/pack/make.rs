//! Makes what an archive's entries say in a tree that nothing leads out of.

use super::super::content::{is_ours, make_whiteout, set_extended};
use super::super::tree::{Tree, named, split};
use super::MODE_BITS;
use super::mounts::Mounts;
use super::read::Refused;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, ftruncate,
    futimens, linkat, mkdirat, mkfifoat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What an entry is to be.
pub struct Entry {
    /// From the tree's root.
    pub path: PathBuf,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub target: Vec<u8>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 as _ };
        Timestamps { last_access: time, last_modification: time }
    }

    /// In the order in which none undoes another.
    fn describe(&self, opened: &OwnedFd) -> Result<(), Refused> {
        let fault = |error: Errno| named(&self.path, error);
        let (owner, group) = self.owner();
        fchown(opened, owner, group).map_err(fault)?;
        fchmod(opened, Mode::from_raw_mode(self.mode & MODE_BITS)).map_err(fault)?;
        for (name, value) in &self.attributes {
            if !is_ours(name) {
                return Err(Refused::entry(self.path.as_os_str().as_bytes(), "has an attribute that nobody may set"));
            }
            set_extended(opened, name, value).map_err(fault)?;
        }
        Ok(futimens(opened, &self.times()).map_err(fault)?)
    }
}

pub struct Maker {
    tree: Tree,
    mounts: Mounts,
    /// Directories that are being filled: what is made in them changes their times.
    open: Vec<Entry>,
}

/// A file that is being written; `None` for one whose place is taken by a mount.
pub struct File(Option<OwnedFd>);

impl Maker {
    pub fn new(tree: Tree, mounts: Mounts) -> Self {
        Self { tree, mounts, open: Vec::new() }
    }

    pub fn directory(&mut self, entry: Entry) -> Result<(), Refused> {
        self.leave(&entry.path)?;
        self.require_place(&entry)?;
        if !entry.path.as_os_str().is_empty() {
            self.make(&entry, |parent, name| match mkdirat(parent, name, Mode::RWXU) {
                // The engine has made some in every container.
                Err(Errno::EXIST) if is_directory(parent, name) => Ok(()),
                made => made,
            })?;
        }
        if self.mounts.at(&entry.path).is_none() {
            self.open.push(entry);
        }
        Ok(())
    }

    pub fn file(&mut self, entry: &Entry, size: u64) -> Result<File, Refused> {
        self.leave(&entry.path)?;
        self.require_place(entry)?;
        if self.mounts.at(&entry.path).is_some() {
            return Ok(File(None));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(entry, |parent, name| openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        ftruncate(&file, size).map_err(|e| named(&entry.path, e))?;
        Ok(File(Some(file)))
    }

    pub fn symlink(&mut self, entry: &Entry) -> Result<(), Refused> {
        self.special(entry, |parent, name| symlinkat(OsStr::from_bytes(&entry.target), parent, name))
    }

    pub fn fifo(&mut self, entry: &Entry) -> Result<(), Refused> {
        let mode = Mode::from_raw_mode(entry.mode & MODE_BITS);
        self.special(entry, |parent, name| {
            mkfifoat(parent, name, mode)?;
            // What the process's mask has taken away.
            chmodat(parent, name, mode, AtFlags::empty())
        })
    }

    pub fn whiteout(&mut self, entry: &Entry) -> Result<(), Refused> {
        let mode = Mode::from_raw_mode(entry.mode & MODE_BITS);
        self.special(entry, |parent, name| {
            make_whiteout(parent, name, mode)?;
            chmodat(parent, name, mode, AtFlags::empty())
        })
    }

    /// Another name of a file of the same tree.
    pub fn link(&mut self, entry: &Entry, to: &Path) -> Result<(), Refused> {
        self.leave(&entry.path)?;
        self.require_place(entry)?;
        let missing = || Refused::entry(entry.path.as_os_str().as_bytes(), "is a link to what is not in the archive");
        let (above, to_name) = split(to);
        let above = self.tree.directory(above).map_err(|_| missing())?;
        let there = statat(&*above, to_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        if FileType::from_raw_mode(there.st_mode) == FileType::Directory || self.mounts.at(to).is_some() {
            return Err(missing());
        }
        self.make(entry, |parent, name| linkat(&*above, to_name, parent, name, AtFlags::empty()))
    }

    /// Everything has come.
    pub fn finish(mut self) -> Result<(), Refused> {
        while let Some(done) = self.open.pop() {
            self.describe(&done)?;
        }
        Ok(())
    }

    fn special(&mut self, entry: &Entry, make: impl Fn(&OwnedFd, &OsStr) -> Result<(), Errno>) -> Result<(), Refused> {
        self.leave(&entry.path)?;
        self.require_place(entry)?;
        if self.mounts.at(&entry.path).is_some() {
            return Ok(());
        }
        let (owner, group) = entry.owner();
        self.make(entry, |parent, name| {
            make(parent, name)?;
            chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
            utimensat(parent, name, &entry.times(), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Describes the directories in which nothing more is made.
    fn leave(&mut self, path: &Path) -> Result<(), Refused> {
        while let Some(done) = self.open.pop_if(|open| !path.starts_with(&open.path)) {
            self.describe(&done)?;
        }
        Ok(())
    }

    fn describe(&self, done: &Entry) -> Result<(), Refused> {
        let opened = self.tree.directory(&done.path).map_err(|e| named(&done.path, e))?;
        done.describe(&opened)
    }

    fn require_place(&self, entry: &Entry) -> Result<(), Refused> {
        if self.mounts.is_below(&entry.path) {
            let what = "lies where something is mounted in every container";
            return Err(Refused::entry(entry.path.as_os_str().as_bytes(), what));
        }
        Ok(())
    }

    /// In place of whatever but a directory has its name.
    fn make<T>(&self, entry: &Entry, make: impl Fn(&OwnedFd, &OsStr) -> Result<T, Errno>) -> Result<T, Refused> {
        let (parent, name) = split(&entry.path);
        let refused = |what| Refused::entry(entry.path.as_os_str().as_bytes(), what);
        let parent = self.tree.directory(parent).map_err(|error| match error {
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR => refused("comes before its directory"),
            error => named(&entry.path, error).into(),
        })?;
        let made = match make(&parent, name) {
            Err(Errno::EXIST) => unlinkat(&*parent, name, AtFlags::empty()).and_then(|()| make(&parent, name)),
            made => made,
        };
        made.map_err(|error| match error {
            Errno::ISDIR => refused("has the name of a directory"),
            error => named(&entry.path, error).into(),
        })
    }
}

fn is_directory(parent: &OwnedFd, name: &OsStr) -> bool {
    let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    there.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

impl File {
    pub fn write(&mut self, mut bytes: &[u8], mut at: u64) -> Result<(), Refused> {
        let Some(file) = &self.0 else { return Ok(()) };
        while !bytes.is_empty() {
            let count = rustix::io::retry_on_intr(|| pwrite(file, bytes, at)).map_err(std::io::Error::from)?;
            bytes = &bytes[count..];
            at += count as u64;
        }
        Ok(())
    }

    pub fn close(self, entry: &Entry) -> Result<(), Refused> {
        self.0.map_or(Ok(()), |file| entry.describe(&file))
    }
}
