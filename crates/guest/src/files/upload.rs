//! Uploads in pieces, which survive a cut and a change of server.
//!
//! **State.** There is none but a file beside the target, `.rexec-<upload>.part`: its size is the
//! offset to go on from. With the last piece it gets the target's name and, where the file system
//! can, an attribute that names the upload, so that a last piece that is sent again is known to be
//! done; until then an attribute keeps the total that it was begun with. One piece of an upload at a time is taken, under a lock that goes with its holder.

use super::content::{End, Pieces};
use super::error::of_io;
use super::info::describe;
use super::replace::Place;
use super::{mode_of, open, parts, path_of};
use crate::guest::Workspace;
use crate::refusal::{invalid, refuse_with};
use rexec_api::error::ErrorCode;
use rexec_api::files::{FileInfo, UploadState};
use rexec_api::guest::{GuestError, UploadAnswer};
use rexec_channel::Call;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Stat, XattrFlags, fgetxattr, flock, fremovexattr, fsetxattr, fstat,
    ftruncate, openat, statat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const ATTRIBUTE: &str = "user.rexec.upload";
/// The total that a part was begun with, in eight bytes, the lowest first.
const ATTRIBUTE_TOTAL: &str = "user.rexec.total";

/// What a call says of its piece.
struct Spec {
    path: PathBuf,
    mode: Option<u32>,
    upload: Uuid,
    offset: u64,
    total: u64,
}

/// Takes a piece; with the last one the file appears under its name.
pub async fn take(workspace: &Workspace, call: Call) {
    let home = PathBuf::from(&workspace.user().home);
    let begun = match spec_of(&call) {
        Ok(spec) => workspace.rights.run(move || Piece::begin(spec, &home)).await,
        Err(error) => Err(error),
    };
    let piece = match begun {
        Ok(Begun::Piece(piece)) => piece,
        Ok(Begun::DoneBefore(info)) => {
            let (body, answer) = call.into_body();
            // What is sent again is let pass: an answer before its end would be no answer.
            let mut pieces = Pieces::new(body);
            while pieces.next().await.1 == End::NotYet {}
            return answer.send(Ok(done(info))).await;
        }
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let (body, answer) = call.into_body();
    match run(workspace, piece, Pieces::new(body)).await {
        Ok(Some(taken)) => answer.send(Ok(taken)).await,
        Ok(None) => {}
        Err(error) => answer.send::<()>(Err(error)).await,
    }
}

fn spec_of(call: &Call) -> Result<Spec, GuestError> {
    let number = |name: &str| {
        let text = call.query(name).ok_or_else(|| invalid(format!("{name} is missing")))?;
        text.parse::<u64>().map_err(|_| invalid(format!("{name} must be a number")))
    };
    Ok(Spec {
        path: path_of(call, "path")?,
        mode: mode_of(call)?,
        upload: upload_of(call)?,
        offset: number("offset")?,
        total: number("total")?,
    })
}

pub fn upload_of(call: &Call) -> Result<Uuid, GuestError> {
    let text = call.query("upload").unwrap_or_default();
    text.parse().map_err(|_| invalid("upload must be an id such as 0197f0c2-6b1e-7c3a-8f00-1234567890ab"))
}

/// `None` when the peer broke off: what has come is kept.
async fn run(workspace: &Workspace, mut piece: Piece, mut pieces: Pieces) -> Result<Option<UploadAnswer>, GuestError> {
    loop {
        let (content, end) = pieces.next().await;
        let (next, answer) = workspace
            .rights
            .run(move || {
                piece.write(&content)?;
                let answer = if end == End::Whole { Some(piece.end()?) } else { None };
                Ok((piece, answer))
            })
            .await?;
        if end != End::NotYet {
            return Ok(answer);
        }
        piece = next;
    }
}

enum Begun {
    Piece(Piece),
    /// The last piece has come before, and its answer was lost.
    DoneBefore(FileInfo),
}

struct Piece {
    place: Place,
    part: String,
    file: File,
    upload: Uuid,
    began: u64,
    at: u64,
    total: u64,
}

impl Piece {
    fn begin(spec: Spec, home: &Path) -> Result<Begun, GuestError> {
        let Spec { path, mode, upload, offset, total } = spec;
        let place = Place::take(&path, mode)?;
        let part = part_of(upload);
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if offset == 0 {
            flags |= OFlags::CREATE;
            parts::note(home, &place.directory.join(&part));
        }
        let mut file: File = match openat(&place.parent, &part, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => {
                return match finished(&place.parent, Path::new(&place.name), upload, Some(total)) {
                    Some(stat) => Ok(Begun::DoneBefore(describe(&path, &stat))),
                    None => Err(conflict("Nothing of this upload is there; begin again.", 0)),
                };
            }
            Err(error) => return Err(of_io(&path, &error.into())),
        };
        let fault = |error: Errno| of_io(&path, &error.into());
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let stat = fstat(&file).map_err(fault)?;
        let size = stat.st_size.cast_unsigned();
        match locked {
            Ok(()) if stat.st_nlink > 0 => {}
            Ok(()) | Err(Errno::WOULDBLOCK) => {
                return Err(conflict("Another piece of this upload is on its way; ask again in a moment.", size));
            }
            Err(error) => return Err(fault(error)),
        }
        if size != offset {
            return Err(conflict(&format!("The upload stands at {size} bytes; go on from there."), size));
        }
        let begun = total_of(&file, total);
        if begun != total {
            let message = format!("This upload was begun with a total of {begun} bytes; keep to it, or begin another.");
            return Err(invalid(message));
        }
        if offset > total {
            return Err(invalid(format!("The upload stands at {offset} bytes, beyond `total`; begin another.")));
        }
        file.seek(SeekFrom::Start(offset)).map_err(|e| of_io(&path, &e))?;
        Ok(Begun::Piece(Self { place, part, file, upload, began: offset, at: offset, total }))
    }

    fn write(&mut self, content: &[u8]) -> Result<(), GuestError> {
        if content.len() as u64 > self.total - self.at {
            // What came before this request is good.
            ftruncate(&self.file, self.began).map_err(|e| of_io(&self.place.path, &e.into()))?;
            return Err(invalid("The piece goes beyond `total`; nothing of it was kept."));
        }
        self.file.write_all(content).map_err(|e| of_io(&self.place.path, &e))?;
        self.at += content.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<UploadAnswer, GuestError> {
        if self.at < self.total {
            return Ok(UploadAnswer { state: UploadState { offset: self.at, done: false }, file: None });
        }
        // The file is whole, and keeps nothing that only a part needs; it has none where there are no attributes.
        let _ = fremovexattr(&self.file, ATTRIBUTE_TOTAL);
        // A file system without attributes does without: then the size tells.
        let _ = fsetxattr(&self.file, ATTRIBUTE, self.upload.as_bytes(), XattrFlags::empty());
        Ok(done(self.place.fill(&self.part, &self.file)?))
    }
}

/// The total that the part was begun with: this one, if nobody said so yet or the file system cannot keep it.
fn total_of(part: &File, total: u64) -> u64 {
    let mut begun = [0; 8];
    match fgetxattr(part, ATTRIBUTE_TOTAL, begun.as_mut_slice()) {
        Ok(8) => u64::from_le_bytes(begun),
        _ => {
            let _ = fsetxattr(part, ATTRIBUTE_TOTAL, &total.to_le_bytes(), XattrFlags::empty());
            total
        }
    }
}

fn done(info: FileInfo) -> UploadAnswer {
    UploadAnswer { state: UploadState { offset: info.size, done: true }, file: Some(info) }
}

fn conflict(message: &str, offset: u64) -> GuestError {
    refuse_with(ErrorCode::UploadConflict, message, offset)
}

fn part_of(upload: Uuid) -> String {
    format!(".rexec-{}.part", upload.simple())
}

/// The target, if it is what this upload has made. Where files have no attributes, one of the
/// upload's size is taken for it, if the size is known.
fn finished(parent: impl AsFd, name: &Path, upload: Uuid, total: Option<u64>) -> Option<Stat> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    let fits = total.is_none_or(|total| total == stat.st_size.cast_unsigned());
    let mut value = [0; 16];
    let same = match fgetxattr(&file, ATTRIBUTE, value.as_mut_slice()) {
        Ok(count) => count == value.len() && value == *upload.as_bytes(),
        Err(Errno::NOTSUP) => total.is_some(),
        Err(_) => false,
    };
    (fits && same).then_some(stat)
}

/// How far an upload has come.
pub fn state(path: &Path, upload: Uuid) -> Result<UploadState, GuestError> {
    let place = match open::parent(path) {
        Err(error) if error.code == ErrorCode::FileNotFound => return Ok(UploadState::default()),
        place => place?,
    };
    match statat(&place.0, part_of(upload), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(UploadState { offset: stat.st_size.cast_unsigned(), done: false }),
        Err(Errno::NOENT) => {
            let done = finished(&place.0, Path::new(&place.1), upload, None);
            Ok(done.map_or_else(UploadState::default, |stat| UploadState {
                offset: stat.st_size.cast_unsigned(),
                done: true,
            }))
        }
        Err(error) => Err(of_io(path, &error.into())),
    }
}

/// Drops what has come of an upload that is not done.
pub fn forget(path: &Path, upload: Uuid) -> Result<(), GuestError> {
    let (parent, _) = open::parent(path)?;
    match unlinkat(&parent, part_of(upload), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(of_io(path, &error.into())),
    }
}
