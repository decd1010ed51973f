//! The hosts' disks: what is kept free, and how workspaces are held to their part.

use super::sources::Reader;
use rexec_api::workspaces::{DISK_GB_MAX, DISK_GB_MIN};
use std::time::Duration;

const HOST_FREE_MB_MIN: u64 = 1024;
/// As much as anyone could mean.
const MB_MAX: u64 = 1 << 32;
const GRACE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A walk of the disk takes at most one part in so many of the time.
const REST_TIMES: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskConfig {
    /// What a workspace may have that does not say; absent: all there is.
    pub gb_default: Option<u32>,
    /// Nothing new is made on a host whose disk has less than this free.
    pub host_free_bytes_min: u64,
    /// How long a workspace may be over its limit before it is stopped. No variable sets it.
    pub grace: Duration,
    /// How often it is asked how full a host's disk is. No variable sets it.
    pub look_every: Duration,
    /// How many times as long as a walk of the disk took it is left alone. No variable sets it.
    pub rest_times: u32,
}

pub(super) fn take(reader: &mut Reader) -> DiskConfig {
    let default = reader.number(&["REXEC_DISK_GB"], DISK_GB_MIN.into(), DISK_GB_MAX.into());
    let free_mb = reader.number(&["REXEC_HOST_DISK_FREE_MB"], 0, MB_MAX).unwrap_or(HOST_FREE_MB_MIN);
    DiskConfig {
        gb_default: default.and_then(|gb| u32::try_from(gb).ok()),
        host_free_bytes_min: free_mb << 20,
        grace: GRACE,
        look_every: LOOK_EVERY,
        rest_times: REST_TIMES,
    }
}
