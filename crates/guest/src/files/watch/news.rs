//! One event of the kernel, as a value.

use rustix::fs::inotify::{Event, ReadFlags};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The number of the watch, and the name of the entry that it is about, if it is about one.
    pub watch: i32,
    pub name: Option<OsString>,
    pub what: What,
    pub is_directory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Created,
    Modified,
    Removed,
    /// The two ends of one move have one number.
    MovedFrom(u32),
    MovedTo(u32),
    /// What the watch is on has gone from its place.
    WatchedGone,
    /// The kernel has dropped the watch.
    WatchEnded,
    /// Events were lost.
    Lost,
    Nothing,
}

impl News {
    pub fn lost() -> Self {
        Self { watch: -1, name: None, what: What::Lost, is_directory: false }
    }

    pub fn of(event: &Event<'_>) -> Self {
        let flags = event.events();
        let table = [
            (ReadFlags::QUEUE_OVERFLOW, What::Lost),
            (ReadFlags::IGNORED, What::WatchEnded),
            (ReadFlags::DELETE_SELF, What::WatchedGone),
            (ReadFlags::MOVE_SELF, What::WatchedGone),
            (ReadFlags::UNMOUNT, What::WatchedGone),
            (ReadFlags::CREATE, What::Created),
            (ReadFlags::DELETE, What::Removed),
            (ReadFlags::MOVED_FROM, What::MovedFrom(event.cookie())),
            (ReadFlags::MOVED_TO, What::MovedTo(event.cookie())),
            (ReadFlags::MODIFY, What::Modified),
            (ReadFlags::CLOSE_WRITE, What::Modified),
            (ReadFlags::ATTRIB, What::Modified),
        ];
        let what = table.into_iter().find(|(flag, _)| flags.contains(*flag)).map_or(What::Nothing, |(_, what)| what);
        Self {
            watch: event.wd(),
            name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())),
            what,
            is_directory: flags.contains(ReadFlags::ISDIR),
        }
    }
}
