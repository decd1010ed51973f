//! What a snapshot says of the workspace to make from it, and how many there may be: pure.

use crate::error::{Error, Result};
use crate::workspaces::store::Workspace;
use rexec_api::egress::EgressSettings;
use rexec_api::error::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What a workspace had when it was taken; what a clone has that does not say otherwise.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotPlan {
    pub cpu_milli: Option<i64>,
    pub memory_mb: Option<i64>,
    pub disk_mb: i64,
    pub pids: Option<i64>,
    pub runtime: String,
    pub template: Option<String>,
    pub nested: Option<String>,
    pub env: BTreeMap<String, String>,
    /// What it might reach; absent of those that are older.
    pub egress: Option<EgressSettings>,
    /// The workspace's own plan.
    pub workspace: String,
}

impl SnapshotPlan {
    pub fn of(row: &Workspace) -> Self {
        Self {
            cpu_milli: Some(row.cpu_milli),
            memory_mb: Some(row.memory_mb),
            disk_mb: row.disk_mb,
            pids: Some(row.pids),
            runtime: row.runtime.clone(),
            template: row.template.clone(),
            nested: row.nested.clone(),
            env: row.env.clone(),
            egress: row.egress.clone(),
            workspace: row.plan_json.clone(),
        }
    }
}

/// What one user may have.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    pub count_max: u32,
    pub bytes_max: u64,
}

/// Whether one more may be begun, with so many there that take up so much.
pub fn allow(count: i64, bytes: i64, quota: &Quota) -> Result<()> {
    if count >= i64::from(quota.count_max) {
        return Err(exceeded("snapshots", count, u64::from(quota.count_max)));
    }
    if u64::try_from(bytes).unwrap_or(0) >= quota.bytes_max {
        return Err(exceeded("snapshot_bytes", bytes, quota.bytes_max));
    }
    Ok(())
}

fn exceeded(quota: &str, used: i64, max: u64) -> Error {
    Error::new(ErrorCode::QuotaExceeded, "You have as many snapshots as you may. Delete one first.")
        .details(json!({ "quota": quota, "used": used, "max": max }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_hold_at_their_bounds() {
        let quota = Quota { count_max: 2, bytes_max: 100 };
        assert!(allow(0, 0, &quota).is_ok() && allow(1, 99, &quota).is_ok());
        assert!(allow(2, 0, &quota).is_err() && allow(1, 100, &quota).is_err());
    }
}
