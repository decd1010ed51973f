//! A workspace's disk limit: how it is held, and whether it can be another.

use super::Workspaces;
use super::store::Workspace;
use crate::error::{Error, Result};
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::DiskEnforced;
use serde_json::json;

/// In MiB, as it is recorded; 0: no limit.
pub(super) fn disk_mb(gb: Option<u32>) -> i64 {
    gb.map_or(0, |gb| i64::from(gb) << 10)
}

impl Workspaces {
    /// How its host holds those limits that workspaces have.
    pub(super) fn disk_enforced(&self, row: &Workspace) -> DiskEnforced {
        match self.deps.fleet.of(row.host).ready() {
            Ok(facts) if facts.disk.volumes && facts.disk.root => DiskEnforced::Quota,
            _ => DiskEnforced::Measured,
        }
    }

    pub(super) fn may_set_disk(&self, row: &Workspace, gb: Option<u32>) -> Result<()> {
        if self.disk_enforced(row) == DiskEnforced::Quota {
            return Err(Error::new(
                ErrorCode::UnsupportedByHost,
                "The host gives a disk its size when it is made. Take a snapshot and create a workspace of it with \
                 another `disk_gb`.",
            ));
        }
        match self.deps.disk.of(row.id).zip(gb) {
            Some((used, gb)) if used > u64::from(gb) << 30 => Err(Error::new(
                ErrorCode::LimitBelowUse,
                "The workspace has more than that on its disk. Remove files first, or ask for more.",
            )
            .details(json!({ "field": "disk_gb", "disk_bytes": used }))),
            _ => Ok(()),
        }
    }
}
