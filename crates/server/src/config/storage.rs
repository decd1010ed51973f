//! What is kept on the hosts' disks besides living workspaces, and for how long.

use super::sources::Reader;
use std::time::Duration;

/// A deleted workspace's home can be had back for a week.
const HOME_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A hundred years: nobody means more.
const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;
const SNAPSHOTS_MAX: u32 = 20;
const SNAPSHOT_BYTES_MAX: u64 = 50 << 30;
/// A kept home that cannot be removed yet is tried again at this pace.
const PURGE_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// How long the home of a deleted workspace is kept; zero keeps none.
    pub home_kept: Duration,
    /// Snapshots of one user.
    pub snapshots_max: u32,
    /// What one user's snapshots may take up.
    pub snapshot_bytes_max: u64,
    /// How often what is to be purged is looked for. No variable sets it.
    pub purge_every: Duration,
}

pub(super) fn take(reader: &mut Reader) -> StorageConfig {
    let kept = reader.number(&["REXEC_HOME_KEPT_SECONDS"], 0, SECONDS_MAX);
    let count = reader.number(&["REXEC_SNAPSHOTS_MAX"], 0, 1_000_000);
    let bytes = reader.number(&["REXEC_SNAPSHOT_BYTES_MAX"], 0, i64::MAX as u64);
    StorageConfig {
        home_kept: kept.map_or(HOME_KEPT, Duration::from_secs),
        snapshots_max: count.map_or(SNAPSHOTS_MAX, |n| n as u32),
        snapshot_bytes_max: bytes.unwrap_or(SNAPSHOT_BYTES_MAX),
        purge_every: PURGE_EVERY,
    }
}
