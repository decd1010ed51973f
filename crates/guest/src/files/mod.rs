//! Files of the workspace, for the server.
//!
//! **Invariant.** Every path is walked with the workspace user's rights (see `rights`); what the
//! user could not do from a shell cannot be done here. A file that is written appears whole under
//! its name or not at all, and an upload that breaks off leaves what was there. Every answer and
//! every buffer is bounded. Nothing is synced to disk: a workspace is as durable as its host.

mod error;
mod info;
mod replace;
mod tree;

use crate::refusal::invalid;
use crate::rights::Rights;
use error::{of_io, refuse_kind};
use info::describe;
use replace::Replacement;
use rexec_api::files::{FileInfo, FileKind, LIST_ENTRIES_MAX, PATH_BYTES_MAX};
use rexec_api::guest::GuestError;
use rexec_channel::{ANSWER_BYTES_MAX, BodyReceiver, Call, ChannelError};
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read from or written to a file in one piece of blocking work.
const PIECE_BYTES: usize = 128 * 1024;
/// A listing stops short of the longest answer that the server takes.
const LIST_BYTES_MAX: usize = ANSWER_BYTES_MAX - 64 * 1024;
/// Directories that are made go by the usual umask.
const DIRECTORY_MODE: u32 = 0o755;

/// The parameter `name` as an absolute path.
pub fn path_of(call: &Call, name: &str) -> Result<PathBuf, GuestError> {
    let text = call.query(name).ok_or_else(|| invalid(format!("{name} is missing or not UTF-8")))?;
    if !text.starts_with('/') || text.contains('\0') || text.len() > PATH_BYTES_MAX {
        return Err(invalid(format!("{name} must be an absolute path of at most {PATH_BYTES_MAX} bytes")));
    }
    Ok(PathBuf::from(text))
}

/// Answers with the content of a file.
pub async fn read(rights: &Rights, call: Call) {
    let opened = match path_of(&call, "path") {
        Ok(path) => rights.run(move || open(&path)).await,
        Err(error) => Err(error),
    };
    let (file, info) = match opened {
        Ok(opened) => opened,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    // What fails from here on resets the stream, so that a cut file is not taken for a whole one.
    let _ = send_content(Arc::new(file), &info, call).await;
}

async fn send_content(file: Arc<File>, info: &FileInfo, call: Call) -> Result<(), Box<dyn std::error::Error>> {
    let mut body = call.file(info)?;
    loop {
        let file = file.clone();
        let piece = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            (&*file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            std::io::Result::Ok(piece)
        });
        let piece = piece.await??;
        if piece.is_empty() {
            return Ok(body.finish()?);
        }
        body.send(piece.into()).await?;
    }
}

/// Opens without waiting (a FIFO would) and without becoming a terminal's owner.
fn open(path: &Path) -> Result<(File, FileInfo), GuestError> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| of_io(path, &e))?;
    let metadata = file.metadata().map_err(|e| of_io(path, &e))?;
    let info = describe(path, &metadata);
    if info.kind == FileKind::File { Ok((file, info)) } else { Err(refuse_kind(path, info.kind)) }
}

/// Takes the content of a file and puts it in its place.
pub async fn write(rights: &Rights, call: Call) {
    let begun = match (path_of(&call, "path"), mode_of(&call)) {
        (Ok(path), Ok(mode)) => rights.run(move || Replacement::begin(&path, mode)).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    let replacement = match begun {
        Ok(replacement) => replacement,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let (body, answer) = call.into_body();
    match take_content(rights, replacement, body).await {
        Ok(Some(info)) => answer.send(Ok(info)).await,
        Ok(None) => {}
        Err(error) => answer.send::<()>(Err(error)).await,
    }
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

/// `None` when the peer broke off: then nothing has changed.
async fn take_content(
    rights: &Rights,
    mut replacement: Replacement,
    mut body: BodyReceiver,
) -> Result<Option<FileInfo>, GuestError> {
    let mut piece = Vec::new();
    loop {
        let next: Result<_, ChannelError> = body.recv().await;
        let (ended, broken) = match next {
            Ok(Some(bytes)) => {
                piece.extend_from_slice(&bytes);
                (false, false)
            }
            Ok(None) => (true, false),
            Err(_) => (false, true),
        };
        if !ended && !broken && piece.len() < PIECE_BYTES {
            continue;
        }
        let content = std::mem::take(&mut piece);
        // Dropping the replacement removes it, which needs the user's rights too.
        let step = rights.run(move || {
            if broken {
                return Ok(None);
            }
            replacement.write(&content)?;
            if ended {
                return replacement.commit().map(|info| Some(Step::Done(info)));
            }
            Ok(Some(Step::More(replacement)))
        });
        match step.await? {
            Some(Step::More(more)) => replacement = more,
            Some(Step::Done(info)) => return Ok(Some(info)),
            None => return Ok(None),
        }
    }
}

enum Step {
    More(Replacement),
    Done(FileInfo),
}

pub fn stat(path: &Path) -> Result<FileInfo, GuestError> {
    let metadata = std::fs::symlink_metadata(path).map_err(|e| of_io(path, &e))?;
    Ok(describe(path, &metadata))
}

/// A directory's first entries by name. Entries that vanish meanwhile are left out.
pub fn list(path: &Path) -> Result<Vec<FileInfo>, GuestError> {
    let mut names: BTreeSet<OsString> = BTreeSet::new();
    for entry in std::fs::read_dir(path).map_err(|e| of_io(path, &e))? {
        names.insert(entry.map_err(|e| of_io(path, &e))?.file_name());
        if names.len() > LIST_ENTRIES_MAX {
            names.pop_last();
        }
    }
    let mut bytes = 0;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let Ok(info) = stat(&path.join(name)) else {
            continue;
        };
        bytes += serde_json::to_vec(&info).map_or(0, |json| json.len() + 1);
        if bytes > LIST_BYTES_MAX {
            break;
        }
        entries.push(info);
    }
    Ok(entries)
}

/// Makes a directory and its parents. One that is there is success.
pub fn mkdir(path: &Path) -> Result<(), GuestError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => refuse_kind(path, FileKind::Other),
        _ => of_io(path, &e),
    })
}

/// Moves; parents of `to` are made, a file there is replaced.
pub fn rename(from: &Path, to: &Path) -> Result<(), GuestError> {
    // Before parents are made for nothing.
    stat(from)?;
    if let Some(parent) = to.parent() {
        mkdir(parent)?;
    }
    std::fs::rename(from, to).map_err(|e| of_io(to, &e))
}

pub fn remove(path: &Path, recursive: bool) -> Result<(), GuestError> {
    let kind = stat(path)?.kind;
    let removed = match (kind, recursive) {
        (FileKind::Directory, true) => tree::remove(path),
        (FileKind::Directory, false) => std::fs::remove_dir(path),
        _ => std::fs::remove_file(path),
    };
    removed.map_err(|e| of_io(path, &e))
}
