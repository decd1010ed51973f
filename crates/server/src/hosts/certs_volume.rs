//! The volume on which the certificates lie that let us in at the first engine, where that engine runs beside us in a
//! container of its own and hands them over by a volume, as Docker's own image does.
//!
//! ```text
//!   DIND_CERTS_VOLUME, else the mount below the certificates in our own mountinfo, else what an engine says of our container
//! ```
//!
//! Compose puts a project's name before a volume's, so nobody needs to know it who lets us look. The mountinfo needs no
//! engine; it cannot tell where volumes lie elsewhere than in an engine's own directories.

use rexec_engine::Engine;
use std::path::{Path, PathBuf};

/// Mounts of this process, as proc_pid_mountinfo(5) has them.
const MOUNTINFO: &str = "/proc/self/mountinfo";
/// By which a container knows itself, unless its hostname was chosen.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Its name, for certificates that were read from this directory.
pub async fn find(named: Option<&str>, directory: &Path, engine: &dyn Engine) -> Option<String> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    // As the kernel names it, whatever links lead there.
    let directory = std::fs::canonicalize(directory).ok()?;
    let mounts = std::fs::read_to_string(MOUNTINFO).unwrap_or_default();
    if let Some(name) = of_mounts(&mounts, &directory) {
        return Some(name);
    }
    let ourselves = std::fs::read_to_string(HOSTNAME).ok()?;
    let found = engine.inspect(ourselves.trim()).await.ok()??;
    let volumes = found.named_volumes.into_iter().map(|(place, name)| (PathBuf::from(place), name));
    nearest(volumes, &directory)
}

/// The volume whose mount this path is below, if it is below one.
fn of_mounts(mountinfo: &str, path: &Path) -> Option<String> {
    // Of two at one place the later hides the one before.
    let mounts = mountinfo.lines().filter_map(mount).map(|(root, point)| (PathBuf::from(point), volume(&root)));
    nearest(mounts, path)?
}

/// What lies deepest on the way to this path; the last of those that lie as deep.
fn nearest<T>(places: impl Iterator<Item = (PathBuf, T)>, path: &Path) -> Option<T> {
    let on_the_way = places.filter(|(place, _)| path.starts_with(place));
    on_the_way.max_by_key(|(place, _)| place.components().count()).map(|(_, what)| what)
}

/// What of its file system is mounted, and where.
fn mount(line: &str) -> Option<(String, String)> {
    let mut fields = line.split(' ').skip(3);
    Some((plain(fields.next()?)?, plain(fields.next()?)?))
}

/// Its name, where an engine's volume is mounted, or a directory of one.
fn volume(root: &str) -> Option<String> {
    let parts: Vec<&str> = root.split('/').collect();
    let found = parts.windows(3).find(|three| three[0] == "volumes" && is_name(three[1]) && three[2] == "_data");
    found.map(|three| three[1].to_owned())
}

/// As Docker allows for volumes.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// A field without the kernel's escapes: a backslash and three octal digits for blanks and backslashes.
fn plain(field: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [a, b, c, after @ ..]) => {
                let digits = std::str::from_utf8(&[*a, *b, *c]).ok()?.to_owned();
                bytes.push(u8::from_str_radix(&digits, 8).ok()?);
                after
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    const HEAD: &str = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        640 612 0:98 / / rw,relatime master:288 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n";

    fn found(mounts: &str, path: &str) -> Option<String> {
        of_mounts(&format!("{HEAD}{mounts}"), Path::new(path))
    }

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let volume = "701 640 8:1 /var/lib/docker/volumes/x_dind-certs/_data /certs ro - ext4 /dev/sda1 rw\n";
        assert_eq!(found(volume, "/certs/client").as_deref(), Some("x_dind-certs"));
        assert_eq!(found(volume, "/certs").as_deref(), Some("x_dind-certs"));
        assert_eq!(found(volume, "/certs-of-others"), None);
        let part = "701 640 8:1 /volumes/y/_data/client /certs/client ro - ext4 /dev/sda1 rw\n";
        assert_eq!(found(part, "/certs/client").as_deref(), Some("y"));
        let bound = format!("{volume}702 701 8:1 /srv/client /certs/client ro - ext4 /dev/sda1 rw\n");
        assert_eq!(found(&bound, "/certs/client"), None, "a directory of the host lies over it");
        let again = format!("{volume}{}", volume.replace("x_dind", "z_dind"));
        assert_eq!(found(&again, "/certs/client").as_deref(), Some("z_dind-certs"));
    }

    #[test]
    fn escapes_are_undone() {
        let spaced = "701 640 8:1 /data\\040disk/volumes/v1/_data /my\\040certs ro - ext4 /dev/sda1 rw\n";
        assert_eq!(found(spaced, "/my certs/client").as_deref(), Some("v1"));
        for odd in ["", "1 2 3", "701 640 8:1 /a\\9zz /certs", "701 640 8:1 /volumes/../_data /certs rw", "\u{0}"] {
            assert_eq!(found(odd, "/certs"), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_project_is_called(project in "[a-z0-9][a-z0-9_-]{0,40}", root in "(/[a-z0-9.]{1,9}){0,4}") {
            let name = format!("{project}_dind-certs");
            let line = format!("701 640 8:1 {root}/volumes/{name}/_data /certs/client ro,relatime master:9 - ext4 /dev/sda1 rw\n");
            prop_assert_eq!(found(&line, "/certs/client"), Some(name));
        }

        #[test]
        fn nothing_panics(mounts in ".{0,200}", path in "/.{0,40}") {
            found(&mounts, &path);
        }
    }
}
