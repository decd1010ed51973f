//! What a workspace uses: now, and over the last day.

use serde::{Deserialize, Serialize};

/// The event `sample` of `GET /api/workspaces/{id}/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatsSample {
    /// RFC 3339.
    pub at: String,
    /// Cores in use since the sample before.
    pub cpu: f64,
    /// Of the cores that the workspace may use.
    pub cpu_percent: f64,
    /// Without the part of the page cache that can go at any time.
    pub memory_bytes: u64,
    /// 0 where the host enforces none.
    pub memory_limit_bytes: u64,
    /// Root file system and home, as last measured; absent until they were. Of a workspace with a limit, files and
    /// directories count as 4 KiB each at the least.
    pub disk_bytes: Option<u64>,
    /// Absent when there is no limit.
    pub disk_limit_bytes: Option<u64>,
    /// Since the workspace was started.
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    /// Bytes per second since the sample before.
    pub network_rx_rate: f64,
    pub network_tx_rate: f64,
    /// Processes and threads.
    pub pids: u64,
    pub pids_limit: u64,
}

/// What a workspace used within a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatsPoint {
    /// Where the span begins; RFC 3339.
    pub at: String,
    /// How long the span is.
    pub seconds: u32,
    /// Cores in use, on average.
    pub cpu: f64,
    /// The most at once.
    pub memory_bytes: u64,
    /// As last measured in the span.
    pub disk_bytes: Option<u64>,
    /// Moved in the span.
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    /// The most at once.
    pub pids: u64,
}

/// The last 24 hours, oldest first: spans of 10 seconds (while somebody watched) of the last quarter of an hour, of
/// a minute of the last two hours, of ten minutes before that. Where it did not run, there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatsHistory {
    pub points: Vec<StatsPoint>,
}
