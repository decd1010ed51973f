//! Extracting an archive into a directory, while it arrives.
//!
//! **Invariant.** Nothing is made outside of the directory, whatever the archive says and whoever
//! changes the directory meanwhile (see `confine`); rights are the user's. An archive is hostile
//! until shown otherwise: names, links, kinds and sizes are judged before anything is made, memory
//! is bounded, and what the disk has no room for ends it. Entries before a refused one stay; of that one nothing is
//! left, and what had its name is as it was.

pub mod check;
mod confine;
mod maker;
mod tar;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod zip;
mod zstd;

use super::archive::format_of;
use super::content::{End, Pieces};
use super::path_of;
use crate::refusal::refuse;
use crate::rights::Rights;
use maker::Maker;
use rexec_api::error::ErrorCode;
use rexec_api::files::{ArchiveFormat, ExtractSummary};
use rexec_api::guest::GuestError;
use rexec_channel::Call;
use std::path::Path;
use tar::TarReader;
use zip::{Spool, ZipReader};
use zstd::Decompressor;

/// Takes the archive that the call brings.
pub async fn take(rights: &Rights, call: Call) {
    let begun = match (path_of(&call, "path"), format_of(&call)) {
        (Ok(path), Ok(format)) => rights.run(move || Extractor::begin(&path, format)).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    let extractor = match begun {
        Ok(extractor) => extractor,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let (body, answer) = call.into_body();
    match run(rights, extractor, Pieces::new(body)).await {
        Ok(Some(summary)) => answer.send(Ok(summary)).await,
        Ok(None) => {}
        Err(error) => answer.send::<()>(Err(error)).await,
    }
}

/// `None` when the peer broke off.
async fn run(
    rights: &Rights,
    mut extractor: Extractor,
    mut pieces: Pieces,
) -> Result<Option<ExtractSummary>, GuestError> {
    loop {
        let (piece, end) = pieces.next().await;
        if end == End::Cut {
            // What is in hand is removed with the user's rights.
            let give_up = move || {
                drop(extractor);
                Ok(None)
            };
            return rights.run(give_up).await;
        }
        extractor = rights
            .run(move || {
                extractor.feed(&piece)?;
                Ok(extractor)
            })
            .await?;
        if end == End::Whole {
            break;
        }
    }
    loop {
        let (next, summary) = rights
            .run(move || {
                let summary = extractor.finish()?;
                Ok((extractor, summary))
            })
            .await?;
        if summary.is_some() {
            return Ok(summary);
        }
        extractor = next;
    }
}

struct Extractor {
    maker: Maker,
    source: Source,
}

enum Source {
    Tar(TarReader),
    TarZst(Box<Decompressor>, TarReader),
    /// A zip begins at its end, so it is kept first.
    Arriving(Spool),
    Zip(Box<ZipReader>),
}

impl Extractor {
    fn begin(path: &Path, format: ArchiveFormat) -> Result<Self, GuestError> {
        let maker = Maker::begin(path)?;
        let source = match format {
            ArchiveFormat::Tar => Source::Tar(TarReader::default()),
            ArchiveFormat::TarZst => Source::TarZst(Box::new(Decompressor::new()?), TarReader::default()),
            ArchiveFormat::Zip => Source::Arriving(Spool::begin(&maker)?),
        };
        Ok(Self { maker, source })
    }

    fn feed(&mut self, piece: &[u8]) -> Result<(), GuestError> {
        match &mut self.source {
            Source::Tar(tar) => tar.feed(piece, &mut self.maker),
            Source::TarZst(zstd, tar) => zstd.feed(piece, |plain| tar.feed(plain, &mut self.maker)),
            Source::Arriving(spool) => spool.write(piece, &self.maker),
            Source::Zip(_) => Ok(()),
        }
    }

    /// Goes on after the archive's end; the summary when all is done.
    fn finish(&mut self) -> Result<Option<ExtractSummary>, GuestError> {
        let done = match &mut self.source {
            Source::Tar(tar) => tar.finish().map(|()| true)?,
            Source::TarZst(zstd, tar) => {
                zstd.finish()?;
                tar.finish().map(|()| true)?
            }
            Source::Arriving(spool) => {
                self.source = Source::Zip(Box::new(spool.read(&self.maker)?));
                false
            }
            Source::Zip(zip) => !zip.step(&mut self.maker)?,
        };
        Ok(done.then(|| self.maker.summary()))
    }
}

/// The archive is not one, or not one that is taken.
fn damaged(what: &str) -> GuestError {
    refuse(ErrorCode::ArchiveInvalid, format!("The archive cannot be extracted: {what}."))
}

/// An entry of it is not taken.
fn refused(name: &[u8], what: &str) -> GuestError {
    let name = String::from_utf8_lossy(name);
    refuse(ErrorCode::ArchiveInvalid, format!("The archive cannot be extracted: the entry {name:?} {what}."))
}
