//! What was decided, for whoever keeps the log.
//!
//! Invariant: telling never waits. What nobody takes in time is counted and not kept, and the count is told with what comes
//! after it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Records that wait to be taken.
pub const WAITING_MAX: usize = 4096;

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
        let (to, from) = mpsc::channel(WAITING_MAX);
        (Self { to, lost: AtomicU64::new(0) }, from)
    }

    pub fn tell(&self, mut record: Record) {
        record.lost += self.lost.swap(0, Ordering::Relaxed);
        if let Err(mpsc::error::TrySendError::Full(record) | mpsc::error::TrySendError::Closed(record)) =
            self.to.try_send(record)
        {
            self.lost.fetch_add(record.lost + 1, Ordering::Relaxed);
        }
    }
}
