//! A directory, or a file, as one stream: tar, tar compressed by Zstandard, or zip.
//!
//! An archive is made in steps, each a turn of blocking work with the user's rights, because the
//! guest has few threads and a reader may be slow: between steps it is a value that holds open
//! directories and no thread. What the user may not read is left out, as are devices, sockets and
//! the kernel's own file systems. What fails half-way cuts the stream.

mod tar;
mod walk;
mod zip;

use super::{PIECE_BYTES, path_of};
use crate::refusal::{internal, invalid};
use crate::rights::Rights;
use rexec_api::files::ArchiveFormat;
use rexec_api::guest::GuestError;
use rexec_channel::{Call, ChannelError};
use std::path::PathBuf;
use tar::TarWriter;
pub(super) use tar::is_users;
use tokio::sync::Semaphore;
use walk::Walk;
use zip::ZipWriter;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// Archives being made at once; more wait for their turn. Each takes a few MiB.
const ARCHIVES_MAX: usize = 4;
/// Quick, and with a window of 2 MiB small on both sides.
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_LOG: u32 = 21;

static TURNS: Semaphore = Semaphore::const_new(ARCHIVES_MAX);

/// Answers with the archive of what the call names.
pub async fn send(rights: &Rights, call: Call) {
    let begun = match asked(&call) {
        Ok((path, format)) => rights.run(move || Walk::begin(&path)).await.map(|walk| (walk, format)),
        Err(error) => Err(error),
    };
    let (walk, format) = match begun {
        Ok(begun) => begun,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    // What fails from here on resets the stream, so that a cut archive is not taken for a whole one.
    let _ = make(rights, walk, format, call).await;
}

fn asked(call: &Call) -> Result<(PathBuf, ArchiveFormat), GuestError> {
    Ok((path_of(call, "path")?, format_of(call)?))
}

pub(super) fn format_of(call: &Call) -> Result<ArchiveFormat, GuestError> {
    let text = call.query("format").unwrap_or_default();
    text.parse().map_err(|()| invalid("format must be tar.zst, tar or zip"))
}

async fn make(rights: &Rights, walk: Walk, format: ArchiveFormat, call: Call) -> Result<(), Failure> {
    let (mut body, _) = call.bytes()?;
    let _turn = TURNS.acquire().await.map_err(|_| ChannelError::Closed)?;
    // Here and not on a thread with a small stack: compressors are large.
    let mut archiver = Archiver::new(walk, format)?;
    loop {
        let (next, out, done) = rights
            .run(move || {
                let mut out = Vec::new();
                let done = archiver.step(&mut out)?;
                Ok((archiver, out, done))
            })
            .await?;
        body.send(out.into()).await?;
        if done {
            return Ok(body.finish()?);
        }
        archiver = next;
    }
}

/// Nobody reads why an archive was cut; it is cut all the same.
struct Failure;

impl From<GuestError> for Failure {
    fn from(_: GuestError) -> Self {
        Self
    }
}

impl From<ChannelError> for Failure {
    fn from(_: ChannelError) -> Self {
        Self
    }
}

struct Archiver {
    writer: Writer,
    compressor: Option<CCtx<'static>>,
}

enum Writer {
    Tar(Box<TarWriter>),
    Zip(Box<ZipWriter>),
}

impl Archiver {
    fn new(walk: Walk, format: ArchiveFormat) -> Result<Self, GuestError> {
        let compressor = match format {
            ArchiveFormat::TarZst => Some(compressor()?),
            ArchiveFormat::Tar | ArchiveFormat::Zip => None,
        };
        let writer = match format {
            ArchiveFormat::Zip => Writer::Zip(Box::new(ZipWriter::new(walk))),
            ArchiveFormat::Tar | ArchiveFormat::TarZst => Writer::Tar(Box::new(TarWriter::new(walk))),
        };
        Ok(Self { writer, compressor })
    }

    /// Adds about a piece to `out`; `true` when that was the last.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, GuestError> {
        let Some(compressor) = &mut self.compressor else {
            return self.writer.step(out);
        };
        let mut plain = Vec::with_capacity(2 * PIECE_BYTES);
        let done = self.writer.step(&mut plain)?;
        compress(compressor, &plain, done, out)?;
        Ok(done)
    }
}

impl Writer {
    fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, GuestError> {
        while out.len() < PIECE_BYTES {
            let more = match self {
                Self::Tar(tar) => tar.add(out)?,
                Self::Zip(zip) => zip.add(out)?,
            };
            if !more {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn compressor() -> Result<CCtx<'static>, GuestError> {
    let mut compressor = CCtx::try_create().ok_or_else(|| internal("no memory for an archive", "zstd"))?;
    for parameter in [CParameter::CompressionLevel(ZSTD_LEVEL), CParameter::WindowLog(ZSTD_WINDOW_LOG)] {
        compressor.set_parameter(parameter).map_err(zstd_fault)?;
    }
    Ok(compressor)
}

fn compress(compressor: &mut CCtx<'static>, plain: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), GuestError> {
    let mut input = InBuffer::around(plain);
    loop {
        let at = out.len();
        out.reserve(CCtx::out_size());
        let mut output = OutBuffer::around_pos(out, at);
        let left = if input.pos < plain.len() {
            compressor.compress_stream(&mut output, &mut input).map_err(zstd_fault)?;
            1
        } else if end {
            compressor.end_stream(&mut output).map_err(zstd_fault)?
        } else {
            0
        };
        if left == 0 {
            return Ok(());
        }
    }
}

fn zstd_fault(code: zstd_safe::ErrorCode) -> GuestError {
    internal("zstd", zstd_safe::get_error_name(code))
}

/// An archive in one piece.
#[cfg(test)]
pub fn whole(path: &std::path::Path, format: ArchiveFormat) -> Result<Vec<u8>, GuestError> {
    let mut archiver = Archiver::new(Walk::begin(path)?, format)?;
    let mut out = Vec::new();
    while !archiver.step(&mut out)? {}
    Ok(out)
}
