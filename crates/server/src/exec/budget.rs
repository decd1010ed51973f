//! How much memory the outputs of commands may take while they are gathered and until they are read.
//!
//! Without this, a few commands that print all they may, or wait before they end, for a caller that does not
//! read, fill the server's memory. An answer as JSON may be six times what was printed; that counts too.

use crate::error::{Error, Result};
use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::ids::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One user's outputs together: the largest answer there is, and some more.
const USER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// All outputs together.
const ALL_BYTES_MAX: usize = 384 * 1024 * 1024;
const RETRY_AFTER: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Taken {
    all: usize,
    of: HashMap<UserId, usize>,
}

#[derive(Clone, Default)]
pub(super) struct Budget(Arc<Mutex<Taken>>);

impl Budget {
    /// A share that holds nothing yet.
    pub fn share(&self, user: UserId) -> Share {
        Share { budget: self.clone(), user, bytes: 0 }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Taken) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one answer takes; given back when dropped.
pub struct Share {
    budget: Budget,
    user: UserId,
    bytes: usize,
}

impl Share {
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.budget.with(|taken| {
            let of = taken.of.entry(self.user).or_default();
            let others = taken.all - *of;
            // Half of what others leave at most: however many gather, there is room for one more's small answer.
            if *of + bytes > USER_BYTES_MAX.min((ALL_BYTES_MAX - others) / 2) {
                let message = "Too much output of commands waits to be read. Read it, ask with \
                    `Accept: text/event-stream`, or try again in a moment.";
                return Err(Error::new(ErrorCode::RateLimited, message).retry_after(RETRY_AFTER));
            }
            *of += bytes;
            taken.all += bytes;
            self.bytes += bytes;
            Ok(())
        })
    }

    /// The answer as bytes, which hold the share until they are sent.
    pub fn with(self, answer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { answer, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.with(|taken| {
            taken.all -= self.bytes;
            let left = taken.of.get_mut(&self.user).map(|of| {
                *of -= self.bytes;
                *of
            });
            if left == Some(0) {
                taken.of.remove(&self.user);
            }
        });
    }
}

/// How long a text is within JSON, without its quotes (RFC 8259, section 7).
pub(super) fn json_bytes(text: &str) -> usize {
    let written = |byte: u8| match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(written).sum()
}

struct Held {
    answer: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_users_share_ends_before_everyones_and_comes_back() {
        let budget = Budget::default();
        let (one, other) = (UserId::new(), UserId::new());
        let mut first = budget.share(one);
        first.grow(USER_BYTES_MAX).unwrap();
        assert_eq!(budget.share(one).grow(1).unwrap_err().code, ErrorCode::RateLimited);
        let mut second = budget.share(other);
        second.grow(USER_BYTES_MAX).unwrap();
        let mut greedy = budget.share(UserId::new());
        while greedy.grow(1 << 20).is_ok() {}
        budget.share(UserId::new()).grow(1 << 20).unwrap();
        drop((first, second, greedy));
        let mut share = budget.share(one);
        share.grow(3).unwrap();
        let answer = share.with(vec![0; 3]);
        assert_eq!(budget.with(|taken| taken.all), 3);
        drop(answer);
        assert!(budget.with(|taken| taken.all == 0 && taken.of.is_empty()));
    }

    #[test]
    fn lengths_are_those_that_are_written() {
        let every: String = (0..0x180).filter_map(char::from_u32).collect();
        assert_eq!(json_bytes(&every) + 2, serde_json::to_string(&every).unwrap().len());
    }
}
