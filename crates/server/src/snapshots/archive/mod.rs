//! Snapshots that leave as one archive, and come back.
//!
//! The archive (`tar.zst`) begins with a manifest; its trees are the root file system in full, base image
//! included, so that it can be imported anywhere, and the home. The guest binary packs and unpacks in a helper
//! container, on the snapshot's own image and volume: nothing of an archive is parsed here but the manifest,
//! none of it is ever on the server's disk, and what is in memory is what is on its way.
//!
//! Invariant: an import is a row before anything is made of it. What is refused or breaks off is condemned
//! with all that it had; what a server that died was importing is `failed` at the next start.

mod export;
mod import;
pub mod manifest;
mod transfer;

pub use export::Export;
pub use import::{Import, Piece};
pub use transfer::Transfer;

use crate::error::Error;
use crate::hosts;
use crate::turns::Full;
use rexec_api::error::ErrorCode;
use rexec_api::guest::HOME;
use rexec_engine::{EngineError, Labels, Mount};
use std::time::Duration;

/// Pieces of an archive between a helper and a connection.
const PIECES_MAX: usize = 8;
const PIECE_BYTES: usize = 64 * 1024;
const ROOT: &str = "/";
/// Exports and imports at once; each keeps the engine's disk busy.
pub const TRANSFERS_MAX: usize = 8;
/// Those of one user.
pub const USER_TRANSFERS_MAX: usize = 2;
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Where a clone has it, so that an image made of the helper looks alike.
fn home_mount(volume: &str, read_only: bool) -> Mount {
    Mount { volume: volume.into(), path: HOME.into(), read_only, labels: Labels::new() }
}

fn too_many(full: Full) -> Error {
    let message = match full {
        Full::User => "You are exporting and importing others already. Try again when they are done.",
        Full::All => "Other snapshots are being exported and imported. Try again when they are done.",
    };
    Error::new(ErrorCode::RateLimited, message).retry_after(RETRY_AFTER)
}

fn stopping() -> Error {
    Error::new(ErrorCode::ShuttingDown, "The server is stopping. Try again shortly.")
}

pub(crate) fn of_engine(error: EngineError) -> Error {
    let code = match &error {
        EngineError::Unavailable(_) => ErrorCode::EngineUnavailable,
        EngineError::DiskFull(_) => ErrorCode::DiskFull,
        _ => ErrorCode::EngineError,
    };
    Error::new(code, hosts::explain(&error)).source(error)
}

/// A helper's stream broke; its own words are for the log.
fn of_stream(error: std::io::Error) -> Error {
    let text = error.to_string();
    if text.contains("No space left") {
        return of_engine(EngineError::DiskFull(text));
    }
    Error::new(ErrorCode::EngineError, "The host could not read or write the files. The server's log says why.")
        .source(error)
}
