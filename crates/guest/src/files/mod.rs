//! Files of the workspace, for the server.
//!
//! **Invariant.** Every path is walked with the workspace user's rights (see `rights`); what the
//! user could not do from a shell cannot be done here, and what a process may only because it
//! asks about itself is refused (see `open`). A file that is written appears whole under its name
//! or not at all, and an upload that breaks off leaves what was there. Every answer and every
//! buffer is bounded. Nothing is synced to disk: a workspace is as durable as its host.

mod archive;
mod content;
mod error;
mod extract;
mod info;
mod list;
mod open;
mod parts;
mod range;
mod replace;
mod routes;
mod tree;
mod upload;
mod watch;

pub use extract::check;
pub(crate) use parts::is_part;
pub use routes::route;

use crate::refusal::{invalid, refuse};
use error::{of_io, refuse_kind};
use rexec_api::error::ErrorCode;
use rexec_api::files::{FileInfo, FileKind, PATH_BYTES_MAX};
use rexec_api::guest::GuestError;
use rexec_channel::Call;
use rustix::fs::{AtFlags, Mode, RenameFlags, fstat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Bytes read from or written to a file in one piece of blocking work.
const PIECE_BYTES: usize = 128 * 1024;

/// The parameter `name` as an absolute path.
fn path_of(call: &Call, name: &str) -> Result<PathBuf, GuestError> {
    let path = call.query_bytes(name).ok_or_else(|| invalid(format!("{name} is missing")))?;
    if !path.starts_with(b"/") || path.contains(&0) || path.len() > PATH_BYTES_MAX {
        return Err(invalid(format!("{name} must be an absolute path of at most {PATH_BYTES_MAX} bytes")));
    }
    Ok(OsString::from_vec(path).into())
}

fn mode_of(call: &Call) -> Result<Option<u32>, GuestError> {
    let Some(text) = call.query("mode") else {
        return Ok(None);
    };
    match text.parse() {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(invalid("mode must be a number from 0 to 4095 (0o7777)")),
    }
}

/// Makes a directory and its parents, all of this mode. One that is there is success, and keeps its own.
fn mkdir(path: &Path, mode: Option<u32>) -> Result<FileInfo, GuestError> {
    let made = match mode {
        Some(mode) => open::make_directory_as(path, Mode::from_raw_mode(mode)),
        None => open::make_directory(path),
    };
    let made = made.map_err(|error| match error.code {
        // The last name is taken by something else.
        ErrorCode::NotADirectory if info::stat(path).is_ok() => refuse_kind(path, FileKind::Other),
        _ => error,
    })?;
    let stat = fstat(&made).map_err(|e| of_io(path, &e.into()))?;
    Ok(info::describe(&open::tidy(path), &stat))
}

/// Moves; parents of `to` are made. What is there is replaced only if that was asked for.
fn rename(from: &Path, to: &Path, overwrite: bool) -> Result<FileInfo, GuestError> {
    let fault = |error: Errno| of_io(to, &error.into());
    let (from_parent, from_name) = open::parent(from)?;
    // Before parents are made for nothing.
    statat(&from_parent, &from_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| of_io(from, &e.into()))?;
    let (to_parent, to_name) = open::parent_made(to)?;
    if overwrite {
        renameat(&from_parent, &from_name, &to_parent, &to_name).map_err(fault)?;
    } else {
        match renameat_with(&from_parent, &from_name, &to_parent, &to_name, RenameFlags::NOREPLACE) {
            // A file system that cannot look and rename in one: look first.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if statat(&to_parent, &to_name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                    return Err(fault(Errno::EXIST));
                }
                renameat(&from_parent, &from_name, &to_parent, &to_name).map_err(fault)?;
            }
            Err(Errno::EXIST) => {
                let message = format!("{}: there is something of that name already; ask for overwrite", to.display());
                return Err(refuse(ErrorCode::FileExists, message));
            }
            renamed => renamed.map_err(fault)?,
        }
    }
    info::stat_within(&to_parent, to.parent().unwrap_or(Path::new("/")), Path::new(&to_name)).map_err(fault)
}

fn remove(path: &Path, recursive: bool, home: &Path) -> Result<(), GuestError> {
    let fault = |error: Errno| of_io(path, &error.into());
    if open::tidy(path) == Path::new("/") {
        return Err(refuse(
            ErrorCode::FileDenied,
            "/: it is the root of the file system; remove what is in it instead",
        ));
    }
    let (parent, name) = open::parent(path)?;
    let stat = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(fault)?;
    match (info::kind_of(&stat), recursive) {
        (FileKind::Directory, true) => {
            // A home that cannot be looked at is not what is removed.
            let kept = rustix::fs::stat(home).ok().map(|home| (home.st_dev, home.st_ino));
            tree::remove(path, &parent, &name, kept)
        }
        (FileKind::Directory, false) => unlinkat(&parent, &name, AtFlags::REMOVEDIR).map_err(fault),
        _ => unlinkat(&parent, &name, AtFlags::empty()).map_err(fault),
    }
}
