//! One directory tree, reached step by step from its root.
//!
//! Every step refuses links, so that nobody who changes the tree meanwhile can lead us out of it. The
//! directories on the way to the last one asked for stay open, [`CHAIN_MAX`] of them: what is asked for next
//! is mostly near. A deeper tree costs time and not descriptors.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Deeper trees are refused; programs that name files by whole paths end there, too.
const DEPTH_MAX: usize = 2048;
/// Directories kept open; two trees fit into the usual limit of 1024.
const CHAIN_MAX: usize = 256;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub struct Tree {
    root: Rc<OwnedFd>,
    /// The way to the directory that was last asked for.
    chain: RefCell<Vec<(OsString, Rc<OwnedFd>)>>,
}

impl Tree {
    /// `root` itself is the caller's word and may be a link.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty()).map_err(|e| named(root, e))?;
        Ok(Self { root: Rc::new(root), chain: RefCell::default() })
    }

    pub fn directory(&self, path: &Path) -> Result<Rc<OwnedFd>, Errno> {
        let mut chain = self.chain.borrow_mut();
        let known = chain.iter().zip(path.iter()).take_while(|((name, _), wanted)| name == wanted).count();
        chain.truncate(known);
        let mut directory = chain.last().map_or(&self.root, |(_, directory)| directory).clone();
        for (depth, name) in path.iter().enumerate().skip(known) {
            if depth >= DEPTH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            directory = Rc::new(openat(&directory, name, DIRECTORY, Mode::empty())?);
            if depth < CHAIN_MAX {
                chain.push((name.to_owned(), directory.clone()));
            }
        }
        Ok(directory)
    }

    /// Looks at every directory afresh from here on.
    pub fn forget(&self) {
        self.chain.borrow_mut().clear();
    }

    /// Removes everything below the root.
    pub fn clear(&self) -> io::Result<()> {
        let names = self.directory(Path::new("")).and_then(|root| names(&root)).map_err(io::Error::from)?;
        names.into_iter().try_for_each(|name| self.remove(Path::new(&name)))
    }

    /// Removes what is at `path`, with all that is in it. Nothing there is no failure.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let mut todo = vec![(path.to_owned(), Removal::Whatever)];
        while let Some((path, removal)) = todo.pop() {
            let more = self.remove_one(&path, removal).map_err(|e| named(&path, e))?;
            if let Some(inside) = more {
                todo.push((path.clone(), Removal::Emptied));
                todo.extend(inside.into_iter().map(|name| (path.join(name), Removal::Whatever)));
            }
        }
        Ok(())
    }

    /// Gives what has to be removed before, if it is a directory that holds something.
    fn remove_one(&self, path: &Path, removal: Removal) -> Result<Option<Vec<OsString>>, Errno> {
        let (parent, name) = split(path);
        // This also takes what is removed off the chain.
        let parent = self.directory(parent)?;
        let is_directory = match (removal, statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Removal::Emptied, _) => true,
            (Removal::Whatever, Ok(stat)) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            (Removal::Whatever, Err(Errno::NOENT)) => return Ok(None),
            (Removal::Whatever, Err(error)) => return Err(error),
        };
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&parent, name, flags) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal == Removal::Whatever => {
                names(&openat(&parent, name, DIRECTORY, Mode::empty())?).map(Some)
            }
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Removal {
    Whatever,
    /// A directory whose content has just been removed.
    Emptied,
}

/// The names in a directory, in the order in which it keeps them.
pub fn names(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// A path's directory and its last name.
pub fn split(path: &Path) -> (&Path, &OsStr) {
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    (parent, path.file_name().unwrap_or_else(|| OsStr::from_bytes(b".")))
}

/// Whether something that was there a moment ago is gone, or has become something else.
pub fn is_vanished(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::STALE)
}

/// A failure with the path that it is about.
pub fn named(path: &Path, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
