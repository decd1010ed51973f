//! The content of one file, out and in.
//!
//! A file that is read is read as long as it was when it was opened: what is appended meanwhile is
//! left out, and a file that became shorter cuts the stream, so that it is not taken for whole.

use super::error::{of_io, refuse_kind};
use super::info::describe;
use super::range::{self, Wanted};
use super::replace::Replacement;
use super::{PIECE_BYTES, mode_of, open, path_of};
use crate::refusal::refuse_with;
use crate::rights::Rights;
use rexec_api::error::ErrorCode;
use rexec_api::files::{FileInfo, FileKind};
use rexec_api::guest::{FileContent, FilePart, GuestError, ReadSpec, WriteCondition};
use rexec_channel::{BodyReceiver, Call};
use rustix::fs::{OFlags, fstat};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Answers with the content of a file, or the part that was asked for.
pub async fn read(rights: &Rights, call: Call) {
    let spec: ReadSpec = call.header("x-rexec-read").unwrap_or_default();
    let opened = match path_of(&call, "path") {
        Ok(path) => rights.run(move || begin(&path, &spec)).await,
        Err(error) => Err(error),
    };
    let (file, content) = match opened {
        Ok(opened) => opened,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    // What fails from here on resets the stream, so that a cut file is not taken for a whole one.
    let _ = send(file, &content, call).await;
}

/// No file: the description is all that is wanted.
fn begin(path: &Path, spec: &ReadSpec) -> Result<(Option<File>, FileContent), GuestError> {
    let (mut file, info) = open_file(path)?;
    let size = info.size;
    // Some files of the kernel have no size and much to say, or a page's size and little.
    let told = size > 0 && !open::is_kernels(&file);
    let all = told.then_some(FilePart { first: 0, bytes: size, ranged: false });
    if spec.head || spec.unless_etag.contains(&info.etag) {
        return Ok((None, FileContent { info, part: all }));
    }
    let counts = spec.if_etag.as_ref().is_none_or(|etag| *etag == info.etag);
    let part =
        match spec.range.as_deref().filter(|_| counts && (told || size == 0)).map(|field| range::parse(field, size)) {
            None | Some(Wanted::Full) => all,
            Some(Wanted::Part { first, bytes }) => {
                file.seek(SeekFrom::Start(first)).map_err(|e| of_io(path, &e))?;
                Some(FilePart { first, bytes, ranged: true })
            }
            Some(Wanted::Unsatisfiable) => {
                let message = format!("The range lies outside of the file, which has {size} bytes.");
                return Err(refuse_with(ErrorCode::RangeNotSatisfiable, message, size));
            }
        };
    Ok((Some(file), FileContent { info, part }))
}

fn open_file(path: &Path) -> Result<(File, FileInfo), GuestError> {
    let file = open::open(path, OFlags::RDONLY)?;
    let stat = fstat(&file).map_err(|e| of_io(path, &e.into()))?;
    let info = describe(path, &stat);
    if info.kind == FileKind::File { Ok((file.into(), info)) } else { Err(refuse_kind(path, info.kind)) }
}

async fn send(file: Option<File>, content: &FileContent, call: Call) -> Result<(), Box<dyn std::error::Error>> {
    let mut body = call.file(content)?;
    let Some(file) = file.map(Arc::new) else {
        return Ok(body.finish()?);
    };
    let mut left = content.part.map(|part| part.bytes);
    while left != Some(0) {
        let want = left.unwrap_or(u64::MAX).min(PIECE_BYTES as u64);
        let file = file.clone();
        let piece = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            (&*file).take(want).read_to_end(&mut piece)?;
            std::io::Result::Ok(piece)
        });
        let piece = piece.await??;
        match &mut left {
            Some(_) if piece.is_empty() => return Err(Error::from(ErrorKind::UnexpectedEof).into()),
            Some(left) => *left -= piece.len() as u64,
            None if piece.is_empty() => break,
            None => {}
        }
        body.send(piece.into()).await?;
    }
    Ok(body.finish()?)
}

/// Takes the content of a file and puts it in its place.
pub async fn write(rights: &Rights, call: Call, condition: Option<WriteCondition>) {
    let begun = match (path_of(&call, "path"), mode_of(&call)) {
        (Ok(path), Ok(mode)) => rights.run(move || Replacement::begin(&path, mode)?.only_if(condition)).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    let replacement = match begun {
        Ok(replacement) => replacement,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let (body, answer) = call.into_body();
    match take(rights, replacement, body).await {
        Ok(Some(info)) => answer.send(Ok(info)).await,
        Ok(None) => {}
        Err(error) => answer.send::<()>(Err(error)).await,
    }
}

/// `None` when the peer broke off: then nothing has changed.
async fn take(
    rights: &Rights,
    mut replacement: Replacement,
    body: BodyReceiver,
) -> Result<Option<FileInfo>, GuestError> {
    let mut pieces = Pieces::new(body);
    loop {
        let (content, end) = pieces.next().await;
        // Dropping the replacement removes it, which needs the user's rights too.
        let step = rights.run(move || {
            if end == End::Cut {
                return Ok(None);
            }
            replacement.write(&content)?;
            if end == End::Whole {
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

/// What follows a piece of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    NotYet,
    Whole,
    /// The peer broke off.
    Cut,
}

/// A body in pieces that are worth a turn of blocking work each.
pub(super) struct Pieces {
    body: BodyReceiver,
}

impl Pieces {
    pub fn new(body: BodyReceiver) -> Self {
        Self { body }
    }

    /// What came until the body's end or until it was enough.
    pub async fn next(&mut self) -> (Vec<u8>, End) {
        let mut piece = Vec::new();
        loop {
            match self.body.recv().await {
                Ok(Some(bytes)) => piece.extend_from_slice(&bytes),
                Ok(None) => return (piece, End::Whole),
                Err(_) => return (piece, End::Cut),
            }
            if piece.len() >= PIECE_BYTES {
                return (piece, End::NotYet);
            }
        }
    }
}
