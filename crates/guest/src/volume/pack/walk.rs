//! One way through a tree at rest, a directory before all that is in it, the same each time.

use super::super::content::is_whiteout;
use super::super::tree::{Tree, named, names};
use super::mounts::{Mounted, Mounts};
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// An entry on the way.
pub struct Found<'a> {
    /// From the tree's root, which is itself the first entry, with no name.
    pub path: &'a Path,
    pub parent: &'a OwnedFd,
    pub name: &'a OsStr,
    pub stat: &'a Stat,
    pub kind: FileType,
    /// An earlier name of the same file.
    pub first: Option<&'a Path>,
}

enum Work {
    Entry(PathBuf),
    Enter(PathBuf),
}

pub fn walk(tree: &Tree, mounts: &Mounts, mut visit: impl FnMut(&Found<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut firsts: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let root = tree.directory(Path::new(""))?;
    let (name, stat) = (OsStr::new("."), fstat(&*root)?);
    let (path, kind) = (Path::new(""), FileType::Directory);
    visit(&Found { path, parent: &root, name, stat: &stat, kind, first: None })?;
    let mut todo = vec![Work::Enter(PathBuf::new())];
    while let Some(work) = todo.pop() {
        let path = match work {
            Work::Enter(path) => {
                todo.extend(inside(tree, &path)?.into_iter().rev().map(|name| Work::Entry(path.join(name))));
                continue;
            }
            Work::Entry(path) => path,
        };
        let (parent, name) = super::super::tree::split(&path);
        let parent = tree.directory(parent).map_err(|e| named(&path, e))?;
        let stat = statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| named(&path, e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mounted = mounts.at(&path);
        let is_kept = matches!(kind, FileType::Directory | FileType::RegularFile | FileType::Symlink | FileType::Fifo)
            || is_whiteout(&stat);
        if !is_kept || mounted == Some(Mounted::Absent) || (mounted.is_some() && kind != FileType::Directory) {
            continue;
        }
        let identity = (stat.st_dev as u64, stat.st_ino as u64);
        let is_linked = kind != FileType::Directory && stat.st_nlink > 1;
        let first = firsts.get(&identity).filter(|_| is_linked);
        visit(&Found { path: &path, parent: &parent, name, stat: &stat, kind, first: first.map(PathBuf::as_path) })?;
        if is_linked && first.is_none() {
            firsts.insert(identity, path.clone());
        }
        if kind == FileType::Directory && mounted != Some(Mounted::Apart) {
            todo.push(Work::Enter(path));
        }
    }
    Ok(())
}

fn inside(tree: &Tree, path: &Path) -> io::Result<Vec<OsString>> {
    let mut found = tree.directory(path).and_then(|directory| names(&directory)).map_err(|e| named(path, e))?;
    found.sort_unstable();
    Ok(found)
}
