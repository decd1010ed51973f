//! What is mounted below a tree: nothing of that is in the tree itself.

use rexec_api::guest::{HOME, MOUNT};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// File systems that the kernel makes up.
const KERNELS: [&str; 8] = ["proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// The kernel's, ours or another tree's: an empty directory in the archive.
    Apart,
    /// A volume that the image asked for, filled from it by the engine: part of the tree.
    Within,
    /// What holds our own mounts while we pack: no part of the tree at all.
    Absent,
}

/// By path from the tree's root.
#[derive(Default)]
pub struct Mounts(HashMap<PathBuf, Mounted>);

impl Mounts {
    /// Of a tree at an absolute path; `other` is the root of the other tree.
    pub fn below(root: &Path, other: &Path) -> io::Result<Self> {
        let table = std::fs::read("/proc/self/mountinfo")?;
        Ok(Self(table.split(|&byte| byte == b'\n').filter_map(|line| parse(line, root, other)).collect()))
    }

    /// Of a root file system to be packed, with the home somewhere in it: the directory at its top that holds
    /// that is ours. Where a workspace has mounts, the image shows nothing, whatever it has there.
    pub fn of_packed(root: &Path, home: &Path) -> io::Result<Self> {
        let mut mounts = Self::below(root, home)?;
        for covered in [MOUNT, HOME] {
            mounts.0.insert(covered.trim_start_matches('/').into(), Mounted::Apart);
        }
        if let Some(top) = home.strip_prefix(root).ok().and_then(|inside| inside.iter().next()) {
            mounts.0.insert(top.into(), Mounted::Absent);
        }
        Ok(mounts)
    }

    pub fn at(&self, path: &Path) -> Option<Mounted> {
        self.0.get(path).copied()
    }

    /// Whether it lies in something mounted, and is not its root.
    pub fn is_below(&self, path: &Path) -> bool {
        path.ancestors().skip(1).any(|above| self.0.contains_key(above))
    }
}

/// A line of the table, as proc_pid_mountinfo(5) describes it.
fn parse(line: &[u8], root: &Path, other: &Path) -> Option<(PathBuf, Mounted)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let at = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let path = at.strip_prefix(root).ok().filter(|path| !path.as_os_str().is_empty())?;
    let is_kernels = KERNELS.iter().any(|kernels| kernels.as_bytes() == kind);
    let mounted = if is_kernels || at == other || at == Path::new(MOUNT) { Mounted::Apart } else { Mounted::Within };
    Some((path.to_owned(), mounted))
}

/// Spaces and the like are told as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let told = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(told.unwrap_or(byte));
        rest = if told.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let parsed = |line: &str| parse(line.as_bytes(), Path::new("/"), Path::new("/home/user"));
        let proc = parsed("22 28 0:21 / /proc rw,nosuid - proc proc rw").unwrap();
        assert_eq!(proc, (PathBuf::from("proc"), Mounted::Apart));
        let home = parsed("30 28 254:0 /vol /home/user rw master:1 - ext4 /dev/vda rw").unwrap();
        assert_eq!(home, (PathBuf::from("home/user"), Mounted::Apart));
        let data = parsed(r"31 28 254:0 /vol /a\040b rw - ext4 /dev/vda rw").unwrap();
        assert_eq!(data, (PathBuf::from("a b"), Mounted::Within));
        assert_eq!(parsed("28 1 0:50 / / rw - overlay overlay rw"), None);
        assert_eq!(parsed(""), None);
        let mounts = Mounts([proc].into());
        assert!(mounts.is_below(Path::new("proc/1")) && !mounts.is_below(Path::new("proc")));
    }
}
