//! Who a program runs as, and the rights that this gives to files.
//!
//! Supplementary groups come from the workspace's own `/etc/group`, read at each start because a
//! user may have edited it a moment ago.

use crate::home::open_regular;
use rexec_api::guest::UserSpec;
use rustix::process::{geteuid, getgroups};
use rustix::thread::{Gid, Uid};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest group file that is read; groups beyond it are not given.
const GROUP_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most supplementary groups of one program.
const GROUPS_MAX: usize = 256;

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// The workspace's user.
    #[default]
    User,
    Root,
    /// Somebody else, as `sudo -u` asks for.
    Other(UserSpec),
}

impl Identity {
    pub(super) fn resolve(&self, user: &UserSpec) -> UserSpec {
        match self {
            Self::User => user.clone(),
            Self::Other(other) => other.clone(),
            Self::Root => UserSpec { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: None },
        }
    }
}

/// The numbers that the kernel judges by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub uid: Uid,
    pub gid: Gid,
    /// The primary group is among them.
    pub groups: Vec<Gid>,
}

impl Credentials {
    pub fn of(user: &UserSpec) -> Self {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        // Who is nobody else anyway has what the kernel says, wherever that came from.
        if !geteuid().is_root()
            && geteuid() == uid
            && let Ok(mut groups) = getgroups()
        {
            groups.push(gid);
            return Self { uid, gid, groups };
        }
        let mut text = String::new();
        if let Ok(file) = open_regular(OpenOptions::new().read(true), Path::new("/etc/group")) {
            // A file that is not UTF-8 gives no groups beyond the primary one.
            if file.take(GROUP_FILE_BYTES_MAX).read_to_string(&mut text).is_err() {
                text.clear();
            }
        }
        Self { uid, gid, groups: groups_of(&text, &user.name, user.gid) }
    }

    /// Whether the mode bits let these credentials execute the file.
    pub fn may_execute(&self, metadata: &std::fs::Metadata) -> bool {
        let mode = metadata.mode();
        if self.uid.is_root() {
            return mode & 0o111 != 0;
        }
        let shift = if metadata.uid() == self.uid.as_raw() {
            6
        } else if self.groups.iter().any(|g| g.as_raw() == metadata.gid()) {
            3
        } else {
            0
        };
        mode >> shift & 1 == 1
    }
}

/// The groups that `name` is listed in, after its primary group.
fn groups_of(group_file: &str, name: &str, primary: u32) -> Vec<Gid> {
    let mut groups = vec![Gid::from_raw(primary)];
    for line in group_file.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(gid), Some(members)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (Ok(gid), true) = (gid.parse::<u32>(), members.split(',').any(|m| m == name)) else {
            continue;
        };
        // The all-ones value means "unchanged" to the kernel and is no group.
        if gid != u32::MAX && gid != primary && groups.len() < GROUPS_MAX {
            groups.push(Gid::from_raw(gid));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_that_list_the_user() {
        let file = "root:x:0:\naudio:x:29:ann,user\nbad line\nusers:x:100:user\nodd:x:zz:user\nself:x:1000:user\n";
        let numbers: Vec<u32> = groups_of(file, "user", 1000).iter().map(|g| g.as_raw()).collect();
        assert_eq!(numbers, [1000, 29, 100]);
    }
}
