//! The watched directories, and what the kernel's events mean for them.
//!
//! All of it runs with the user's rights.

use super::news::{News, What};
use crate::files::{error::of_io, info, open};
use rexec_api::error::ErrorCode;
use rexec_api::files::{ChangeKind, FileEvent};
use rexec_api::guest::GuestError;
use rustix::fs::OFlags;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Directories of one watch at most.
const DIRECTORIES_MAX: usize = 8192;

pub struct Tree {
    queue: OwnedFd,
    root: PathBuf,
    root_watch: i32,
    recursive: bool,
    /// The watch of each directory, or the one of a file.
    watched: HashMap<i32, PathBuf>,
}

/// What is to be told, and whether it is the last.
#[derive(Default)]
pub struct Told {
    pub events: Vec<FileEvent>,
    pub ended: bool,
}

impl Tree {
    pub fn begin(root: &Path, recursive: bool) -> Result<Self, GuestError> {
        // Judged as any other path; what is watched tells names and nothing else.
        open::open(root, OFlags::PATH)?;
        let queue = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| match error {
            Errno::MFILE => refuse("The host has no watch left at the moment; try again later.".into()),
            error => of_io(root, &error.into()),
        })?;
        let root_watch = add_watch(&queue, root, flags()).map_err(|e| no_watch(root, e))?;
        let watched = HashMap::from([(root_watch, root.to_owned())]);
        let mut tree = Self { queue, root: root.to_owned(), root_watch, recursive, watched };
        if recursive {
            tree.add_below(root, &mut Vec::new())?;
        }
        Ok(tree)
    }

    /// The kernel's queue of events, to wait on and to read.
    pub fn queue(&self) -> io::Result<OwnedFd> {
        self.queue.try_clone()
    }

    /// What a batch of news means, after the watches have been put right.
    pub fn tell(&mut self, heard: Vec<News>) -> Told {
        let mut told = Teller::default();
        for news in heard {
            if news.what == What::Lost {
                told.overflow();
                self.look_anew(&mut told);
                continue;
            }
            let Some(place) = self.watched.get(&news.watch).cloned() else {
                continue;
            };
            match (news.what, &news.name) {
                (What::WatchEnded, _) => {
                    self.watched.remove(&news.watch);
                    told.ended |= news.watch == self.root_watch;
                }
                (What::WatchedGone, _) if news.watch == self.root_watch => {
                    told.change(ChangeKind::Removed, place);
                    told.ended = true;
                }
                (_, Some(name)) => self.entry(&news, &place.join(name), &mut told),
                (What::Modified, None) if !news.is_directory => told.change(ChangeKind::Modified, place),
                _ => {}
            }
            if told.ended {
                break;
            }
        }
        told.end(|path| self.drop_below(path))
    }

    fn entry(&mut self, news: &News, path: &Path, told: &mut Teller) {
        match news.what {
            What::Created => {
                told.change(ChangeKind::Created, path.to_owned());
                self.appeared(news, path, told);
            }
            // A directory changes with what is in it, which is told by itself.
            What::Modified if news.is_directory => {}
            What::Modified => told.change(ChangeKind::Modified, path.to_owned()),
            What::Removed => told.change(ChangeKind::Removed, path.to_owned()),
            What::MovedFrom(number) => told.moving.push((number, path.to_owned())),
            What::MovedTo(number) => match told.moved_from(number) {
                Some(from) => {
                    self.rename_below(&from, path);
                    told.moved(from, path);
                }
                None => {
                    told.change(ChangeKind::Created, path.to_owned());
                    self.appeared(news, path, told);
                }
            },
            _ => {}
        }
    }

    /// A directory that is new is watched too; what is in it already came before its watch.
    fn appeared(&mut self, news: &News, path: &Path, told: &mut Teller) {
        if !self.recursive || !news.is_directory {
            return;
        }
        let mut found = Vec::new();
        let added = self.add(path).and_then(|()| self.add_below(path, &mut found));
        for path in found {
            told.change(ChangeKind::Created, path);
        }
        // One that has gone again, or may not be read, is none of ours.
        if added.is_err() && std::fs::symlink_metadata(path).is_ok() {
            told.overflow();
        }
    }

    fn look_anew(&mut self, told: &mut Teller) {
        if self.recursive {
            let root = self.root.clone();
            // What cannot be watched now was told of as lost.
            let _ = self.add_below(&root, &mut Vec::new());
        }
        told.ended |= info::stat(&self.root).is_err();
    }

    fn add(&mut self, directory: &Path) -> Result<(), GuestError> {
        if self.watched.len() >= DIRECTORIES_MAX {
            return Err(refuse(format!("There are more than {DIRECTORIES_MAX} directories; watch a smaller one.")));
        }
        let only = flags() | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match add_watch(&self.queue, directory, only) {
            Ok(watch) => {
                self.watched.insert(watch, directory.to_owned());
                Ok(())
            }
            // Nothing to be seen there, or not any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(()),
            Err(error) => Err(no_watch(directory, error)),
        }
    }

    /// Watches every directory below this one, which is watched already, and notes what is there.
    fn add_below(&mut self, directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), GuestError> {
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.add(&path)?;
                    left.push(path.clone());
                }
                if found.len() < DIRECTORIES_MAX {
                    found.push(path);
                }
            }
        }
        Ok(())
    }

    /// The directories below one that was moved have moved with it.
    fn rename_below(&mut self, from: &Path, to: &Path) {
        for place in self.watched.values_mut() {
            if let Ok(rest) = place.strip_prefix(from) {
                *place = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            }
        }
    }

    /// Directories that have left are watched no longer.
    fn drop_below(&mut self, path: &Path) {
        let queue = &self.queue;
        self.watched.retain(|&watch, place| {
            let left = place.starts_with(path);
            if left {
                // Gone already if the directory is.
                let _ = remove_watch(queue, watch);
            }
            !left
        });
    }
}

/// Gathers what is to be told: one event for many writes of one file.
#[derive(Default)]
struct Teller {
    events: Vec<FileEvent>,
    fresh: HashSet<PathBuf>,
    /// Moves of which only the beginning has come.
    moving: Vec<(u32, PathBuf)>,
    ended: bool,
}

impl Teller {
    fn change(&mut self, kind: ChangeKind, path: PathBuf) {
        let again = match kind {
            ChangeKind::Created | ChangeKind::Modified => !self.fresh.insert(path.clone()),
            ChangeKind::Removed | ChangeKind::Moved => {
                self.fresh.remove(&path);
                false
            }
        };
        if !again {
            self.events.push(FileEvent::Change { kind, path: text(&path), to: None });
        }
    }

    fn moved(&mut self, from: PathBuf, to: &Path) {
        self.fresh.remove(&from);
        self.fresh.remove(to);
        self.events.push(FileEvent::Change { kind: ChangeKind::Moved, path: text(&from), to: Some(text(to)) });
    }

    fn moved_from(&mut self, number: u32) -> Option<PathBuf> {
        let at = self.moving.iter().position(|(known, _)| *known == number)?;
        Some(self.moving.swap_remove(at).1)
    }

    fn overflow(&mut self) {
        if self.events.last() != Some(&FileEvent::Overflow) {
            self.events.push(FileEvent::Overflow);
        }
    }

    /// What moved away and did not come back has gone.
    fn end(mut self, mut gone: impl FnMut(&Path)) -> Told {
        for (_, path) in std::mem::take(&mut self.moving) {
            gone(&path);
            self.change(ChangeKind::Removed, path);
        }
        Told { events: self.events, ended: self.ended }
    }
}

fn flags() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::EXCL_UNLINK
}

pub fn refuse(message: String) -> GuestError {
    crate::refusal::refuse(ErrorCode::FileError, message)
}

fn no_watch(path: &Path, error: Errno) -> GuestError {
    match error {
        Errno::NOSPC => refuse("The host has no watch left at the moment; watch a smaller directory.".into()),
        error => of_io(path, &error.into()),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
