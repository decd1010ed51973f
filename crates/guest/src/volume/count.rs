//! How many files a tree has, which may change meanwhile: every one takes an inode, however empty.
//!
//! What it keeps in memory grows with the tree's depth and its hard links, and not with how much is in it, so
//! that nobody's tree is too much to count. What lies too deep to be looked at counts as much as could be hidden there.

use super::tree::{is_vanished, named};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Each level is an open directory. No deeper tree can be copied.
const DEPTH_MAX: usize = 2048;
/// Descriptors besides those.
const DESCRIPTORS_SPARE: u64 = 64;
/// What a directory counts as that is too deep to be entered.
const DEEP_FILES: u64 = 1 << 20;
/// Files with several names that are known again; beyond, each name counts.
const LINKED_MAX: usize = 1 << 20;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Files, directories and whatever else there is below `root`, each inode once.
pub fn files(root: &Path) -> io::Result<u64> {
    let opened = openat(rustix::fs::CWD, root, DIRECTORY, Mode::empty()).and_then(Dir::new);
    let mut walk = Walk { levels: vec![opened.map_err(|e| named(root, e))?], linked: HashSet::new(), count: 0 };
    allow_descriptors()?;
    while let Some(level) = walk.levels.last_mut() {
        match level.next() {
            None => drop(walk.levels.pop()),
            Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Some(Ok(entry)) => match walk.take(&entry) {
                Err(error) if !is_vanished(error) => return Err(named(root, error)),
                _ => {}
            },
            Some(Err(error)) if is_vanished(error) => drop(walk.levels.pop()),
            Some(Err(error)) => return Err(named(root, error)),
        }
    }
    Ok(walk.count)
}

struct Walk {
    levels: Vec<Dir>,
    linked: HashSet<(u64, u64)>,
    count: u64,
}

impl Walk {
    fn take(&mut self, entry: &rustix::fs::DirEntry) -> Result<(), Errno> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let name = entry.file_name();
        if entry.file_type() != FileType::Directory {
            let stat = statat(level.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let identity = (stat.st_dev as u64, stat.st_ino as u64);
                let is_known = stat.st_nlink > 1 && self.linked.contains(&identity);
                if stat.st_nlink > 1 && self.linked.len() < LINKED_MAX {
                    self.linked.insert(identity);
                }
                self.count += u64::from(!is_known);
                return Ok(());
            }
        }
        self.count += 1;
        if self.levels.len() >= DEPTH_MAX {
            self.count += DEEP_FILES;
            return Ok(());
        }
        let inner: OwnedFd = openat(level.fd()?, name, DIRECTORY, Mode::empty())?;
        self.levels.push(Dir::new(inner)?);
        Ok(())
    }
}

fn allow_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = DEPTH_MAX as u64 + DESCRIPTORS_SPARE;
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_inode_counts_once_however_empty() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(files(root).unwrap(), 0);
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        for n in 0..100 {
            fs::write(root.join(format!("a/b/{n}")), "").unwrap();
        }
        fs::hard_link(root.join("a/b/1"), root.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("abroad")).unwrap();
        assert_eq!(files(root).unwrap(), 3 + 100 + 1, "a link is one, and what it leads to is elsewhere");
    }

    #[test]
    fn nothing_is_too_deep_to_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = fs::File::open(dir.path()).map(OwnedFd::from).unwrap();
        for _ in 0..DEPTH_MAX + 8 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        assert_eq!(files(dir.path()).unwrap(), DEPTH_MAX as u64 + DEEP_FILES);
    }
}
