//! What an owner may change of a workspace that is there: all that a request names, or nothing of it.
//!
//! Limits have to be granted by the driver, which may refuse them. So what else a request names is written
//! down with the wish and done in the transaction that grants it; without limits it is done at once.

use super::capacity::Capacity;
use super::disk::disk_mb;
use super::limits::{Refusal, Wish};
use super::store::{self, Wished, Workspace};
use super::{Workspaces, machine, no_such, settled, validate};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, Logged, NewEvent};
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::idle::IdleSettings;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{PatchWorkspace, WorkspaceView};
use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::json;
use std::time::Duration;

/// How long a request waits for its new limits.
const RESIZE_PATIENCE: Duration = Duration::from_secs(25);
/// Others that change the same settings at the same moment.
const IDLE_TRIES: u32 = 16;

impl Workspaces {
    /// Changes what is named, once all of it may be.
    pub async fn change(&self, actor: &Actor, id: WorkspaceId, change: PatchWorkspace) -> Result<WorkspaceView> {
        let row = self.owned(actor, Scope::WorkspacesWrite, id).await?;
        validate::change(&change)?;
        if row.is_machine() {
            machine::require_change(&change)?;
        }
        if let Ok(facts) = self.deps.fleet.of(row.host).ready() {
            Capacity::of(&facts.engine).require(change.cpu, change.memory_mb)?;
        }
        if let Some(gb) = change.disk_gb.filter(|gb| disk_mb(*gb) != row.disk_mb) {
            self.may_set_disk(&row, gb)?;
        }
        let limits = Wish::changed(&row, &change);
        let rest = PatchWorkspace { cpu: None, memory_mb: None, pids: None, ..change };
        // While others are to be granted it waits with those: what comes later must not be overtaken.
        if row.wish.is_some() || limits != Wish::of(&row) {
            self.resize(&row, &Wished { limits, rest: merged(&row.rest, rest) }).await?;
        } else {
            let tx = self.deps.db.begin().await?;
            let happened = apply(&tx, &row, &rest).await?.ok_or_else(no_such)?;
            tx.commit().await?;
            happened.into_iter().for_each(|logged| self.deps.bus.publish_logged(row.owner, logged));
        }
        self.get(actor, id).await
    }

    /// Wishes for other limits and waits for the driver's answer; one that does not come in time is
    /// to be seen at the workspace.
    async fn resize(&self, row: &Workspace, wish: &Wished) -> Result<()> {
        if !store::wish_limits(self.deps.db.write(), row, wish, now_ms()).await? {
            return Err(Error::new(ErrorCode::WorkspaceBusy, "Its limits are being changed already. Try again.")
                .details(json!({ "doing": "limits" }))
                .retry_after(Duration::from_secs(1)));
        }
        let slot = self.slot(row.id);
        settled(&slot, slot.nudge(), RESIZE_PATIENCE).await;
        match slot.refusal_of(row.limits_seq + 1) {
            Some(Refusal { code, message, below_use }) => {
                let details = below_use.map(|(field, used)| json!({ "field": field, "used": used }));
                Err(Error::new(code, message).details(details.unwrap_or_else(|| json!({}))))
            }
            None => Ok(()),
        }
    }
}

/// What is asked for now, over what still waits.
fn merged(before: &PatchWorkspace, now: PatchWorkspace) -> PatchWorkspace {
    let idle = match (before.idle, now.idle) {
        (Some(Some(before)), Some(Some(now))) => Some(Some(now.or(before))),
        (before, now) => now.or(before),
    };
    PatchWorkspace {
        name: now.name.or_else(|| before.name.clone()),
        disk_gb: now.disk_gb.or(before.disk_gb),
        idle,
        ..PatchWorkspace::default()
    }
}

/// Writes what is named besides limits, and tells of it. `None`: the workspace is gone.
pub(super) async fn apply(
    tx: &DatabaseTransaction,
    row: &Workspace,
    rest: &PatchWorkspace,
) -> Result<Option<Vec<Logged>>, DbErr> {
    // Only its owner may change anything.
    let event = |kind| NewEvent::of_user(row.owner, kind).workspace(row.id);
    let mut happened = Vec::new();
    if let Some(name) = &rest.name {
        if !store::rename(tx, row.id, name, now_ms()).await? {
            return Ok(None);
        }
        let data = json!({ "from": row.name, "to": name });
        happened.push(events::append(tx, &event("workspace.renamed").data(data)).await?);
    }
    if let Some(gb) = rest.disk_gb.filter(|gb| disk_mb(*gb) != row.disk_mb) {
        if !store::set_disk(tx, row.id, disk_mb(gb), now_ms()).await? {
            return Ok(None);
        }
        let before = Some(row.disk_mb >> 10).filter(|gb| *gb > 0);
        let data = json!({ "from_gb": before, "to_gb": gb });
        happened.push(events::append(tx, &event("workspace.disk_changed").data(data)).await?);
    }
    if let Some(own) = rest.idle {
        let Some(idle) = change_idle(tx, row.id, own).await? else { return Ok(None) };
        let data = json!({ "idle": idle });
        happened.push(events::append(tx, &event("workspace.idle_changed").data(data)).await?);
    }
    Ok(Some(happened))
}

/// Writes what `own` names over what stands there, or forgets all of it; of two who name different things at
/// once, both are heard. `None`: the workspace is gone.
async fn change_idle(
    tx: &DatabaseTransaction,
    id: WorkspaceId,
    own: Option<IdleSettings>,
) -> Result<Option<IdleSettings>, DbErr> {
    for _ in 0..IDLE_TRIES {
        let Some(before) = store::find(tx, id).await?.map(|row| row.idle) else { return Ok(None) };
        let idle = own.map_or_else(IdleSettings::default, |own| own.or(before));
        if store::set_idle(tx, id, &before, &idle, now_ms()).await? {
            return Ok(Some(idle));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_kept_where_nothing_else_is_asked_for() {
        let idle = |stop| IdleSettings { stop_after_s: Some(stop), ..Default::default() };
        let before = PatchWorkspace {
            name: Some("a".into()),
            disk_gb: Some(Some(3)),
            idle: Some(Some(idle(5))),
            ..Default::default()
        };
        let kept = merged(&before, PatchWorkspace::default());
        assert_eq!((kept.name.as_deref(), kept.disk_gb, kept.idle), (Some("a"), Some(Some(3)), Some(Some(idle(5)))));
        let pause = IdleSettings { pause_after_s: Some(1), ..Default::default() };
        let now = PatchWorkspace { name: Some("b".into()), idle: Some(Some(pause)), ..Default::default() };
        let both = merged(&before, now);
        assert_eq!((both.name.as_deref(), both.idle), (Some("b"), Some(Some(pause.or(idle(5))))));
        let none = merged(&before, PatchWorkspace { idle: Some(None), ..Default::default() });
        assert_eq!(none.idle, Some(None), "all as the server says");
        let json = serde_json::to_string(&Wished { limits: Wish { cpu_milli: 1, memory_mb: 2, pids: 3 }, rest: none });
        let read: Wished = serde_json::from_str(&json.unwrap()).unwrap();
        assert_eq!((read.limits.pids, read.rest.idle, read.rest.disk_gb), (3, Some(None), Some(Some(3))));
        // As an earlier version wrote it.
        let read: Wished = serde_json::from_str(r#"{"cpu_milli":1,"memory_mb":2,"pids":3}"#).unwrap();
        assert!(read.limits.cpu_milli == 1 && read.rest.name.is_none());
    }
}
