//! What the core remembers of one attachment.
//!
//! Invariant: an attachment owns no queue. It has a cursor into the ring and notes of what its
//! client was last told; every frame is derived, when the transport has room for it, from the
//! difference between that and the terminal. One finished snapshot at most waits to be sent.

use super::flow::Flow;
use super::sizes::{Size, SizeChange};
use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::guest::AttachMode;
use std::time::Duration;
use uuid::Uuid;

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    At(u64),
    Snapshot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// `attached` has not been sent.
    Opening(Start),
    Live,
    /// One last message, then nothing.
    Failing(ErrorCode, String),
    Ended,
}

/// Whether the client shows the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Visible,
    Hidden,
}

/// Whether input of this attachment waits for the program to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    Open,
    /// Its acknowledgements wait behind that input, so they are not to be expected.
    Blocked,
}

pub(super) struct Viewer {
    pub mode: AttachMode,
    pub client: Option<Uuid>,
    pub stage: Stage,
    /// Everything before it has been handed to the transport.
    pub cursor: u64,
    pub flow: Flow,
    pub sight: Sight,
    pub intake: Intake,
    /// The size that this client would like, applied when it becomes the controller.
    pub wanted: Option<Size>,
    /// The size and the size change that the client knows.
    pub size: Size,
    pub size_serial: u64,
    pub snapshot: Option<Bytes>,
    pub accepted_due: bool,
    pub told_company: Option<(u32, bool)>,
    pub told_title: u64,
    /// A refusal that does not end the attachment; a newer one replaces it.
    pub notice: Option<(ErrorCode, String)>,
}

impl Viewer {
    pub fn new(mode: AttachMode, client: Option<Uuid>, stage: Stage, from: SizeChange) -> Self {
        Self {
            mode,
            client,
            stage,
            cursor: from.offset,
            flow: Flow::new(from.offset, Duration::ZERO),
            sight: Sight::Visible,
            intake: Intake::Open,
            wanted: None,
            size: from.size,
            size_serial: from.serial,
            snapshot: None,
            accepted_due: false,
            told_company: None,
            told_title: 0,
            notice: None,
        }
    }

    /// Whether it watches: refused and ended ones are no company.
    pub fn is_present(&self) -> bool {
        matches!(self.stage, Stage::Opening(_) | Stage::Live)
    }
}
