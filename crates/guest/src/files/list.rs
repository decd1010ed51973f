//! Listing a directory, page by page and by name.

use super::error::of_io;
use super::info::stat_within;
use super::open;
use rexec_api::files::LIST_ENTRIES_MAX;
use rexec_api::guest::{FilePage, GuestError};
use rexec_channel::ANSWER_BYTES_MAX;
use rustix::fs::Dir;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// A page stops short of the longest answer that the server takes.
const LIST_BYTES_MAX: usize = ANSWER_BYTES_MAX - 64 * 1024;

/// The first `limit` entries after the name that `after` stands for. Entries that vanish meanwhile
/// are left out; what is made meanwhile is found if its name is still to come.
pub(super) fn list(path: &Path, after: Option<&str>, limit: usize) -> Result<FilePage, GuestError> {
    let after = after.and_then(from_cursor);
    let limit = limit.clamp(1, LIST_ENTRIES_MAX);
    let directory = open::directory(path)?;
    let fault = |error: rustix::io::Errno| of_io(path, &error.into());
    let mut names: BTreeSet<OsString> = BTreeSet::new();
    for entry in Dir::read_from(&directory).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || after.as_deref().is_some_and(|after| name <= after) {
            continue;
        }
        names.insert(name.to_owned());
        // One more than the page tells whether another follows.
        if names.len() > limit + 1 {
            names.pop_last();
        }
    }
    let mut page = FilePage { items: Vec::with_capacity(names.len().min(limit)), next: None };
    let (mut bytes, mut last) = (0, None);
    for (number, name) in names.into_iter().enumerate() {
        let info = stat_within(&directory, path, Path::new(&name)).ok();
        bytes += info.as_ref().and_then(|info| serde_json::to_vec(info).ok()).map_or(0, |json| json.len() + 1);
        if number == limit || bytes > LIST_BYTES_MAX {
            page.next = last.as_deref().map(to_cursor);
            break;
        }
        page.items.extend(info);
        last = Some(name);
    }
    Ok(page)
}

/// A name may hold any bytes; a cursor is text.
fn to_cursor(name: &OsStr) -> String {
    name.as_bytes().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A cursor that none of ours made begins at the beginning.
fn from_cursor(cursor: &str) -> Option<OsString> {
    let digits = cursor.as_bytes();
    if !digits.len().is_multiple_of(2) || !cursor.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..digits.len() / 2).map(|at| u8::from_str_radix(&cursor[2 * at..2 * at + 2], 16).ok()).collect();
    bytes.map(OsString::from_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_carry_any_name() {
        for name in [b"a".as_slice(), b"\xff\x00z", "ä".as_bytes()] {
            let name = OsStr::from_bytes(name);
            assert_eq!(from_cursor(&to_cursor(name)).as_deref(), Some(name));
        }
        assert_eq!(from_cursor("zz"), None);
        assert_eq!(from_cursor("abc"), None);
    }
}
