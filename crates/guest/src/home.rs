//! Making the workspace's user at home: a home directory and an entry in the image's user files.
//!
//! Repeating it changes nothing more. What the image does not allow (a read-only or absent `/etc`)
//! is left: programs run by number either way.

use crate::refusal::internal;
use crate::rights::Rights;
use rexec_api::guest::{GuestError, UserSpec};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chownat, openat, statat};
use rustix::process::{Gid, Uid};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const SKELETON: &str = "/etc/skel";
/// Entries of the skeleton that are copied at most, and the longest file among them.
const SKELETON_ENTRIES_MAX: usize = 1024;
const SKELETON_FILE_BYTES_MAX: u64 = 1024 * 1024;
const HOME_MODE: u32 = 0o755;
/// Directories in one another whose owner is changed; below, what is another's stays so.
const HOME_DEPTH_MAX: usize = 512;
/// The longest user file that is read.
const ACCOUNTS_BYTES_MAX: u64 = 1024 * 1024;

/// Everything the user needs to feel at home.
pub async fn settle(user: &UserSpec, shell: String) -> Result<(), GuestError> {
    let spec = user.clone();
    let fresh = Rights::own()
        .run(move || {
            add_accounts(&spec, &shell, Path::new("/etc"));
            own_home(&spec).map_err(|e| internal("could not prepare the home directory", e))
        })
        .await?;
    if fresh {
        let home = PathBuf::from(&user.home);
        let copy = move || {
            let mut budget = SKELETON_ENTRIES_MAX;
            // A skeleton that cannot be read in full is no reason to refuse a workspace.
            let _ = copy_tree(Path::new(SKELETON), &home, &mut budget);
            Ok(())
        };
        Rights::of(user).run(copy).await?;
    }
    Ok(())
}

/// Gives the user a home that is missing, is root's and empty as a new volume is, or is another's: the image's own
/// user's, or that of a workspace whose programs ran as somebody else. True when it is fresh. The directory itself is opened first, so that no link can be put in its place.
fn own_home(user: &UserSpec) -> io::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(HOME_MODE).create(&user.home);
    match made {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let home = match rustix::fs::open(user.home.as_str(), flags, Mode::empty()) {
        Ok(home) => home,
        // Not a directory: the user finds out, and it is not ours to replace.
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let owner = rustix::fs::fstat(&home)?.st_uid;
    if owner == user.uid || user.uid == 0 {
        return Ok(false);
    }
    if owner != 0 {
        take_over(&home, owner, user)?;
        return Ok(false);
    }
    let mut entries = rustix::fs::Dir::read_from(&home)?;
    let other = |name: &std::ffi::CStr| name != c"." && name != c".." && name != c"lost+found";
    if entries.any(|entry| entry.is_ok_and(|entry| other(entry.file_name()))) {
        return Ok(false);
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::fs::fchown(&home, Some(uid), Some(gid))?;
    Ok(true)
}

/// Makes all that is `owner`'s in the home the user's, and the home itself at the end: what was not finished is
/// begun again at the next start. Nothing runs in the workspace yet; no link is followed and no mount entered.
fn take_over(home: &OwnedFd, owner: u32, user: &UserSpec) -> io::Result<()> {
    let device = rustix::fs::fstat(home)?.st_dev;
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    let mut open = vec![rustix::fs::Dir::read_from(home)?];
    loop {
        let depth = open.len();
        let Some(directory) = open.last_mut() else { break };
        let Some(Ok(entry)) = directory.read() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let here = directory.fd()?;
        let Ok(stat) = statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_uid == owner {
            // What cannot change its owner stays, and is no reason to refuse the workspace.
            let _ = chownat(here, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory && stat.st_dev == device && depth < HOME_DEPTH_MAX {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = openat(here, name, flags, Mode::empty()).and_then(rustix::fs::Dir::new);
            open.extend(below);
        }
    }
    Ok(rustix::fs::fchown(home, uid, gid)?)
}

/// Copies directories, files and links, as the user; what is there already stays.
fn copy_tree(from: &Path, to: &Path, budget: &mut usize) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        *budget = budget.checked_sub(1).ok_or_else(|| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        let target = to.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_symlink() {
            let _ = std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target);
        } else if metadata.is_dir() {
            let _ = std::fs::create_dir(&target);
            copy_tree(&entry.path(), &target, budget)?;
        } else if metadata.is_file() && metadata.len() <= SKELETON_FILE_BYTES_MAX {
            let mode = metadata.permissions().mode() & 0o777;
            let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(&target);
            if let Ok(mut file) = created {
                io::copy(&mut open_regular(OpenOptions::new().read(true), &entry.path())?, &mut file)?;
            }
        }
    }
    Ok(())
}

/// Appends to `passwd` and `group` when neither the number nor the name is in them.
fn add_accounts(user: &UserSpec, shell: &str, directory: &Path) {
    let clean = |text: &str| !text.contains([':', '\n', '\0']);
    if !clean(&user.name) || !clean(&user.home) || !clean(shell) {
        return;
    }
    let passwd = format!(
        "{name}:x:{uid}:{gid}::{home}:{shell}\n",
        name = user.name,
        uid = user.uid,
        gid = user.gid,
        home = user.home,
    );
    add_line(&directory.join("passwd"), &user.name, user.uid, &passwd);
    let group = format!("{}:x:{}:\n", user.name, user.gid);
    add_line(&directory.join("group"), &user.name, user.gid, &group);
}

/// Both files have the name first and the number third. Failing is tolerated: see the module.
fn add_line(path: &Path, name: &str, number: u32, line: &str) {
    let mut text = String::new();
    if let Ok(file) = open_regular(OpenOptions::new().read(true), path) {
        let read = file.take(ACCOUNTS_BYTES_MAX).read_to_string(&mut text);
        if read.is_err() || text.len() as u64 == ACCOUNTS_BYTES_MAX {
            return;
        }
    }
    let number = number.to_string();
    let known = text.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(&number)
    });
    if known {
        return;
    }
    if let Some(parent) = path.parent() {
        let _ = std::fs::create_dir_all(parent);
    }
    let opened = open_regular(OpenOptions::new().append(true).create(true).mode(0o644), path);
    if let Ok(mut file) = opened {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let _ = file.write_all(format!("{newline}{line}").as_bytes());
    }
}

/// The account of a name, or of `#` and a number, from the image's `passwd`.
pub fn account(name: &str) -> Option<UserSpec> {
    let mut text = String::new();
    let file = open_regular(OpenOptions::new().read(true), Path::new("/etc/passwd")).ok()?;
    file.take(ACCOUNTS_BYTES_MAX).read_to_string(&mut text).ok()?;
    find_account(&text, name)
}

/// Opens a file of the image without waiting: root in the workspace may have put a pipe or a device in its place,
/// which would hold us, so only a regular file is taken.
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The account that the workspace's description names, where the image has it: it lives in the workspace's home, and
/// is not root, which programs become by `sudo`.
pub fn chosen(usual: UserSpec, name: Option<&str>) -> UserSpec {
    let found = name.and_then(|name| account(name).or_else(|| account(&format!("#{name}"))));
    let no_shell = |shell: &String| shell.ends_with("/nologin") || shell.ends_with("/false");
    match found.filter(|found| found.uid != 0) {
        Some(found) => UserSpec { home: usual.home, shell: found.shell.filter(|shell| !no_shell(shell)), ..found },
        None => usual,
    }
}

fn find_account(passwd: &str, name: &str) -> Option<UserSpec> {
    let number: Option<u32> = name.strip_prefix('#').and_then(|n| n.parse().ok());
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [entry, _, uid, gid, _, home, shell] = fields[..] else {
            return None;
        };
        let uid: u32 = uid.parse().ok()?;
        (entry == name || number == Some(uid)).then_some(())?;
        Some(UserSpec {
            name: entry.to_owned(),
            uid,
            gid: gid.parse().ok()?,
            home: home.to_owned(),
            shell: (!shell.is_empty()).then(|| shell.to_owned()),
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_added_once_and_only_when_free() {
        let directory = tempfile::tempdir().unwrap();
        let passwd = directory.path().join("passwd");
        std::fs::write(&passwd, "root:x:0:0:root:/root:/bin/sh").unwrap();
        let user = UserSpec::default();
        for _ in 0..2 {
            add_accounts(&user, "/bin/bash", directory.path());
        }
        assert_eq!(
            std::fs::read_to_string(&passwd).unwrap(),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/bash\n"
        );
        assert_eq!(std::fs::read_to_string(directory.path().join("group")).unwrap(), "user:x:1000:\n");
        let evil = UserSpec { name: "a:b\n".into(), uid: 7, ..user };
        add_accounts(&evil, "/bin/sh", directory.path());
        assert_eq!(std::fs::read_to_string(&passwd).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_pipe_in_the_place_of_a_user_file_holds_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("passwd");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        let (done, finished) = std::sync::mpsc::channel();
        let to_both_ends = pipe.clone();
        std::thread::spawn(move || {
            let read = open_regular(OpenOptions::new().read(true), &to_both_ends).map(|_| ());
            add_accounts(&UserSpec::default(), "/bin/sh", to_both_ends.parent().unwrap());
            // With a reader, a pipe can be opened for writing.
            let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&to_both_ends).unwrap();
            let written = open_regular(OpenOptions::new().append(true), &to_both_ends).map(|_| ());
            drop(reader);
            done.send([read, written]).unwrap();
        });
        let opened = finished.recv_timeout(std::time::Duration::from_secs(30)).expect("a pipe holds the guest");
        for result in opened {
            assert!(result.is_err());
        }
        assert!(open_regular(OpenOptions::new().read(true), Path::new("/dev/null")).is_err());
        assert_eq!(std::fs::read_to_string(directory.path().join("group")).unwrap(), "user:x:1000:\n");
    }

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let passwd = "bad\nann:x:7:8:Ann:/home/ann:\nuser:x:1000:1000::/home/user:/bin/zsh\n";
        assert_eq!(find_account(passwd, "ann").unwrap().uid, 7);
        let user = find_account(passwd, "#1000").unwrap();
        assert_eq!(user.shell.as_deref(), Some("/bin/zsh"));
        assert!(find_account(passwd, "#").is_none());
        assert!(find_account(passwd, "nobody").is_none());
    }

    #[test]
    fn a_new_home_becomes_the_users_and_a_used_one_stays() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home/user");
        let user = UserSpec { home: home.to_str().unwrap().to_owned(), ..UserSpec::default() };
        let root = rustix::process::geteuid().is_root();
        assert_eq!(own_home(&user).unwrap(), root);
        assert!(!own_home(&user).unwrap());
        if root {
            let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&home).unwrap());
            assert_eq!(owner, user.uid);
        }
        if root {
            std::fs::create_dir(home.join("mine")).unwrap();
            std::fs::write(home.join("mine/file"), "x").unwrap();
            std::os::unix::fs::lchown(home.join("mine"), Some(1000), Some(1000)).unwrap();
            std::os::unix::fs::lchown(home.join("mine/file"), Some(1000), Some(1000)).unwrap();
            std::fs::write(home.join("roots"), "x").unwrap();
            std::fs::write(directory.path().join("outside"), "x").unwrap();
            std::os::unix::fs::lchown(directory.path().join("outside"), Some(1000), None).unwrap();
            std::os::unix::fs::symlink("../../outside", home.join("link")).unwrap();
            std::os::unix::fs::lchown(home.join("link"), Some(1000), None).unwrap();
            let other = UserSpec { uid: 2000, gid: 2001, ..user.clone() };
            assert!(!own_home(&other).unwrap());
            let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&std::fs::symlink_metadata(path).unwrap());
            let owners = ["", "mine", "mine/file", "link", "roots"].map(|name| owner(&home.join(name)));
            assert_eq!(owners, [2000, 2000, 2000, 2000, 0]);
            assert_eq!(owner(&directory.path().join("outside")), 1000);
            std::fs::remove_file(home.join("link")).unwrap();
        }
        let skeleton = directory.path().join("skel");
        std::fs::create_dir_all(skeleton.join("sub")).unwrap();
        std::fs::write(skeleton.join("sub/.rc"), "x").unwrap();
        std::os::unix::fs::symlink("sub", skeleton.join("link")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        copy_tree(&skeleton, &home, &mut 10).unwrap();
        assert_eq!(std::fs::read_to_string(home.join("link/.rc")).unwrap(), "x");
        assert!(copy_tree(&skeleton, &home, &mut 1).is_err());
    }
}
