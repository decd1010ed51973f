//! How much memory the long frames and answers of a user's guests may take at once.
//!
//! A snapshot may be sixteen megabytes, and a guest has as many attachments as its viewers open: one that
//! sends the longest frame to each, to viewers that read nothing, would fill the server's memory, and so would one that
//! begins a long answer to each of many questions and ends none. Frames longer than [`FREE_BYTES`] therefore count from
//! their first bytes until whoever took them lets go of them, and answers from [`ANSWER_FREE_BYTES`] on as they come.
//! Beyond the budget the stream ends with an error; a viewer comes back a moment later.

use crate::error::{ChannelError, Result};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Frames of at most this length are free: all that is not a large snapshot.
pub(crate) const FREE_BYTES: usize = 256 * 1024;
/// So much of an answer is free: most have a hundred bytes.
pub(crate) const ANSWER_FREE_BYTES: usize = 16 * 1024;
/// Together. A screen with all its scrollback is a megabyte or two.
const BUDGET_BYTES: usize = 4 * crate::SERVER_FRAME_BYTES_MAX;

/// What the guests of one user share; clones are the same. A guest that is given none has one of its own.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Whether anybody else has it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<Share> {
        let more = |taken: usize| Some(taken + bytes).filter(|&sum| sum <= BUDGET_BYTES);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Share { budget: self.clone(), bytes }),
            Err(taken) => {
                Err(ChannelError::protocol(format!("{bytes} bytes more while {taken} of {BUDGET_BYTES} are taken")))
            }
        }
    }
}

/// A part of the budget, given back when dropped.
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// Takes more.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        // The part is this one's from now on.
        self.bytes += std::mem::take(&mut self.budget.take(bytes)?.bytes);
        Ok(())
    }

    /// The frame that it was taken for: given back with the last of its bytes.
    pub fn with(self, frame: Bytes) -> Bytes {
        Bytes::from_owner(Held { frame, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Held {
    frame: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_share_comes_back_with_the_last_of_its_bytes() {
        let budget = Budget::default();
        let frame = budget.take(BUDGET_BYTES).unwrap().with(Bytes::from_static(b"frame"));
        let part = frame.slice(1..2);
        drop(frame);
        assert!(budget.take(1).is_err());
        drop(part);
        drop(budget.take(BUDGET_BYTES).unwrap());
        assert!(budget.take(BUDGET_BYTES + 1).is_err());
        let mut share = budget.take(1).unwrap();
        share.grow(BUDGET_BYTES - 1).unwrap();
        assert!(share.grow(1).is_err() && budget.take(1).is_err());
        drop(share);
        budget.take(BUDGET_BYTES).unwrap();
    }
}
