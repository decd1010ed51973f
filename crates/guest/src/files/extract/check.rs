//! What an archive may say. Pure.

use rexec_api::files::PATH_BYTES_MAX;

/// Most entries of an archive.
pub const ENTRIES_MAX: u64 = 1_000_000;
/// Most directories on the way to an entry.
pub const DEPTH_MAX: usize = 256;
/// Longest single name, as file systems have it.
const NAME_BYTES_MAX: usize = 255;
/// The share of a file system that stays free, and the most that this comes to: a twentieth of a large disk is
/// room for many archives.
const FREE_PERCENT: u64 = 5;
const FREE_BYTES_MAX: u64 = 1 << 30;

/// The names on the way to an entry and its own; none for the directory itself. An error says what
/// is wrong with it.
pub fn parts(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.starts_with(b"/") {
        return Err("has an absolute path");
    }
    if name.contains(&0) {
        return Err("has a NUL byte in its name");
    }
    if name.len() > PATH_BYTES_MAX {
        return Err("has too long a name");
    }
    let parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("leads out of the directory by `..`");
    }
    if parts.len() > DEPTH_MAX || parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return Err("has too long a name");
    }
    Ok(parts)
}

/// Where a link may point: anywhere, for nothing is ever made through it.
pub fn target(target: &[u8]) -> Result<(), &'static str> {
    if target.is_empty() || target.contains(&0) || target.len() > PATH_BYTES_MAX {
        return Err("is a link to what is no path");
    }
    Ok(())
}

/// Bytes that may be written to a file system of `total` bytes with `free` left.
pub fn bytes_max(total: u64, free: u64) -> u64 {
    free.saturating_sub((total / 100 * FREE_PERCENT).min(FREE_BYTES_MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_lead_outside_are_refused() {
        for name in
            ["/etc/passwd", "..", "a/../../b", "a/..", "../x", "//x", "a\0b", &"x".repeat(300), &"a/".repeat(300)]
        {
            assert!(parts(name.as_bytes()).is_err(), "{name:?}");
        }
        assert_eq!(parts(b"./a//b/./c/").unwrap(), [b"a", b"b", b"c"]);
        assert!(parts(b"./").unwrap().is_empty());
        assert_eq!(parts(b"..a/...").unwrap(), [b"..a".as_slice(), b"..."]);
        assert!(target(b"/anywhere").is_ok() && target(b"").is_err() && target(b"a\0").is_err());
    }

    #[test]
    fn bounds() {
        assert_eq!(bytes_max(1000, 500), 450);
        assert_eq!(bytes_max(1000, 10), 0);
        assert_eq!(bytes_max(1 << 40, 3 << 30), 2 << 30);
    }

    proptest! {
        #[test]
        fn what_passes_stays_inside(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(parts) = parts(&name) {
                for part in parts {
                    prop_assert!(!part.is_empty() && part != b"." && part != b"..");
                    prop_assert!(!part.contains(&b'/') && !part.contains(&0));
                }
            }
        }
    }
}
