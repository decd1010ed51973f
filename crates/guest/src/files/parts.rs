//! Which uploads in pieces have begun, so that those that nobody goes on with are cleared away.
//!
//! A list in the user's cache, of paths and nothing else: the files themselves tell their age. It is
//! the user's to change, so only files that are named as parts are removed, with the user's rights.
//! A list that cannot be kept clears nothing away, and refuses nothing.

use super::replace::Replacement;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIST: &str = ".cache/rexec/parts";
/// The longest list that is read; what does not fit is forgotten.
const LIST_BYTES_MAX: u64 = 1024 * 1024;
/// A part that got no piece for so long is given up.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Notes a part that is about to be made, and removes those that are old.
pub(super) fn note(home: &Path, part: &Path) {
    let list = home.join(LIST);
    let before = read(&list);
    let mut kept: Vec<PathBuf> = before.iter().filter(|part| is_kept(part)).cloned().collect();
    if !kept.iter().any(|known| known == part) {
        kept.push(part.to_owned());
    }
    if kept != before {
        write(&list, &kept);
    }
}

fn read(list: &Path) -> Vec<PathBuf> {
    let mut text = Vec::new();
    // Not to be held by a pipe in its place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(list, flags, Mode::empty()) {
        // An unreadable list is an empty one.
        let _ = File::from(file).take(LIST_BYTES_MAX).read_to_end(&mut text);
    }
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| OsStr::from_bytes(line).into())
        .collect()
}

/// Removes a part that is old. One that is gone is not kept either, nor what is no part.
fn is_kept(part: &Path) -> bool {
    let name = part.file_name().map(OsStr::as_bytes).unwrap_or_default();
    if !is_part(name) {
        return false;
    }
    let Ok(metadata) = std::fs::symlink_metadata(part) else {
        return false;
    };
    // A clock that was set back makes nothing old.
    let is_old = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > AGE_MAX));
    if is_old {
        // If not now, then next time.
        return std::fs::remove_file(part).is_err();
    }
    true
}

/// Whether a file of this name is what has come of an upload that is not whole.
pub fn is_part(name: &[u8]) -> bool {
    name.starts_with(b".rexec-") && name.ends_with(b".part")
}

fn write(list: &Path, parts: &[PathBuf]) {
    let mut text = Vec::new();
    for part in parts.iter().filter(|part| !part.as_os_str().as_bytes().contains(&b'\n')) {
        text.extend_from_slice(part.as_os_str().as_bytes());
        text.push(b'\n');
    }
    // A list that cannot be written is the old one.
    let _ = Replacement::begin(list, Some(0o600)).and_then(|mut file| {
        file.write(&text)?;
        file.commit()
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn old_parts_go_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for name in [".rexec-old.part", ".rexec-new.part", "precious"] {
            File::create(path(name)).unwrap();
        }
        for name in [".rexec-old.part", "precious"] {
            let yesterday = std::time::SystemTime::now() - 2 * AGE_MAX;
            File::options().write(true).open(path(name)).unwrap().set_modified(yesterday).unwrap();
        }
        write(&path(LIST), &[path(".rexec-old.part"), path("precious"), path("gone.part")]);
        note(home.path(), &path(".rexec-new.part"));
        assert_eq!(read(&path(LIST)), [path(".rexec-new.part")]);
        assert!(!path(".rexec-old.part").exists() && path("precious").exists());
    }
}
