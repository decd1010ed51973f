//! A workspace's disk limit: how it is held, and how it is changed.

use super::store::{self, Workspace};
use super::{Workspaces, no_such, validate};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::DiskEnforced;
use serde_json::json;

pub(super) fn disk_mb(gb: u32) -> i64 {
    i64::from(gb) << 10
}

impl Workspaces {
    /// How the host holds those limits that workspaces have.
    pub(super) fn disk_enforced(&self) -> DiskEnforced {
        match self.deps.host.ready() {
            Ok(facts) if facts.disk.volumes && facts.disk.root => DiskEnforced::Quota,
            _ => DiskEnforced::Measured,
        }
    }

    pub async fn set_disk(&self, actor: &Actor, id: WorkspaceId, gb: u32) -> Result<()> {
        let row = self.owned(actor, id).await?;
        validate::disk_gb(gb)?;
        if disk_mb(gb) == row.disk_mb {
            return Ok(());
        }
        self.may_set_disk(&row, gb)?;
        let tx = self.deps.db.begin().await?;
        if !store::set_disk(&tx, id, disk_mb(gb), now_ms()).await? {
            return Err(no_such());
        }
        let changed = NewEvent::of_user(actor.user, "workspace.disk_changed").workspace(id);
        let data = json!({ "from_gb": row.disk_mb >> 10, "to_gb": gb });
        let logged = events::append(&tx, &changed.data(data)).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(row.owner, logged);
        Ok(())
    }

    fn may_set_disk(&self, row: &Workspace, gb: u32) -> Result<()> {
        if self.disk_enforced() == DiskEnforced::Quota {
            return Err(Error::new(
                ErrorCode::UnsupportedByHost,
                "The host gives a disk its size when it is made. Take a snapshot and create a workspace of it with \
                 another `disk_gb`.",
            ));
        }
        match self.deps.disk.of(row.id) {
            Some(used) if used > u64::from(gb) << 30 => Err(Error::new(
                ErrorCode::LimitBelowUse,
                "The workspace has more than that on its disk. Remove files first, or ask for more.",
            )
            .details(json!({ "field": "disk_gb", "disk_bytes": used }))),
            _ => Ok(()),
        }
    }
}
