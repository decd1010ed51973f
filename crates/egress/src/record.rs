//! What was decided, for whoever keeps the log.
//!
//! Invariant: telling never waits. What nobody takes in time is counted and not kept, and the count is told with what comes
//! after it. What is paid for has a place before it begins, and is kept however much else is told.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Records that wait to be taken.
pub const WAITING_MAX: usize = 4096;
/// Besides them, those of what is paid for, and what goes on and will be told then.
pub const PAID_MAX: usize = 4096;

/// In which way something was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// A request that the proxy is to make.
    Http,
    /// The same, within TLS that ended here.
    Https,
    Connect,
    Socks,
    /// TLS that takes the gateway for the host itself.
    Direct,
    /// A request to a language model, which the gateway makes for the operator.
    Model,
    Dns,
}

/// One decision, or the end of what was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub at: SystemTime,
    pub workspace: String,
    /// Of the policy that decided.
    pub version: u64,
    pub how: How,
    pub host: String,
    pub port: u16,
    /// The rule that allowed it, or the code of why not.
    pub outcome: Result<String, &'static str>,
    pub end: Option<Ended>,
    /// Secrets whose values it was given.
    pub secrets: Vec<String>,
    /// What a model's answer cost that has ended.
    pub tokens: Option<Tokens>,
    /// Records before this one that were not told: its workspace's, or anybody's.
    pub lost: u64,
}

/// Of one answer of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub model: String,
    pub input: u64,
    /// Of the input: read from the vendor's cache.
    pub cached: u64,
    pub output: u64,
    /// The vendor did not tell all of it.
    pub estimated: bool,
}

/// How a connection that was allowed has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// `None`: another proxy dialled it.
    pub address: Option<IpAddr>,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub lasted: Duration,
}

/// Where records are told.
#[derive(Debug)]
pub struct Records {
    to: mpsc::Sender<Record>,
    lost: AtomicU64,
}

impl Records {
    pub fn new() -> (Self, mpsc::Receiver<Record>) {
        let (to, from) = mpsc::channel(WAITING_MAX + PAID_MAX);
        (Self { to, lost: AtomicU64::new(0) }, from)
    }

    pub fn tell(&self, mut record: Record) {
        if self.to.capacity() <= PAID_MAX {
            self.lost.fetch_add(record.lost + 1, Ordering::Relaxed);
            return;
        }
        record.lost += self.lost.swap(0, Ordering::Relaxed);
        if let Err(mpsc::error::TrySendError::Full(record) | mpsc::error::TrySendError::Closed(record)) =
            self.to.try_send(record)
        {
            self.lost.fetch_add(record.lost + 1, Ordering::Relaxed);
        }
    }

    /// A place for a record of what is paid for; `None` while nobody takes them.
    pub fn place(&self) -> Option<mpsc::OwnedPermit<Record>> {
        self.to.clone().try_reserve_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(port: u16) -> Record {
        Record {
            at: SystemTime::UNIX_EPOCH,
            workspace: String::new(),
            version: 1,
            how: How::Model,
            host: String::new(),
            port,
            outcome: Err(""),
            end: None,
            secrets: Vec::new(),
            tokens: None,
            lost: 0,
        }
    }

    #[test]
    fn what_is_paid_for_is_never_lost() {
        let (records, mut taken) = Records::new();
        let place = records.place().expect("a place");
        // The one that is paid for took one of those.
        let kept = WAITING_MAX - 1;
        (0..WAITING_MAX + PAID_MAX).for_each(|_| records.tell(record(1)));
        place.send(record(2));
        let places: Vec<_> = std::iter::from_fn(|| records.place()).collect();
        assert_eq!(places.len(), PAID_MAX);
        drop(places);
        (0..kept).for_each(|_| assert_eq!(taken.try_recv().map(|record| record.port), Ok(1)));
        assert_eq!(taken.try_recv().map(|record| record.port), Ok(2));
        records.tell(record(3));
        let last = taken.try_recv().map(|record| (record.port, record.lost));
        assert_eq!(last, Ok((3, (PAID_MAX + 1) as u64)));
    }
}
