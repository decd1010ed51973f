//! What an owner may change of a workspace that is there.

use super::limits::{Refusal, Wish};
use super::store::{self, Workspace};
use super::{Workspaces, no_such, settled, validate};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::idle::IdleSettings;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{PatchWorkspace, WorkspaceView};
use sea_orm::DatabaseTransaction;
use serde_json::json;
use std::time::Duration;

/// How long a request waits for its new limits.
const RESIZE_PATIENCE: Duration = Duration::from_secs(25);
/// Others that change the same settings at the same moment.
const IDLE_TRIES: u32 = 16;

impl Workspaces {
    /// Changes what is named, once all of it may be.
    pub async fn change(&self, actor: &Actor, id: WorkspaceId, change: PatchWorkspace) -> Result<WorkspaceView> {
        let row = self.owned(actor, id).await?;
        if let Some(name) = &change.name {
            validate::name(name)?;
        }
        if let Some(Some(settings)) = &change.idle {
            validate::idle(settings)?;
        }
        validate::limits(change.cpu, change.memory_mb, change.pids)?;
        let wish = Wish::changed(&row, &change);
        if wish != row.wish.unwrap_or_else(|| Wish::of(&row)) {
            self.resize(&row, &wish).await?;
        }
        if let Some(gb) = change.disk_gb {
            self.set_disk(actor, id, gb).await?;
        }
        self.record_change(actor, &row, change.name.as_deref(), change.idle).await?;
        self.get(actor, id).await
    }

    /// Wishes for other limits and waits for the driver's answer; one that does not come in time is
    /// to be seen at the workspace.
    async fn resize(&self, row: &Workspace, wish: &Wish) -> Result<()> {
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

    async fn record_change(
        &self,
        actor: &Actor,
        row: &Workspace,
        name: Option<&str>,
        idle: Option<Option<IdleSettings>>,
    ) -> Result<()> {
        let mut happened = Vec::new();
        let tx = self.deps.db.begin().await?;
        if let Some(name) = name {
            if !store::rename(&tx, row.id, name, now_ms()).await? {
                return Err(no_such());
            }
            let renamed = NewEvent::of_user(actor.user, "workspace.renamed").workspace(row.id);
            happened.push(events::append(&tx, &renamed.data(json!({ "from": row.name, "to": name }))).await?);
        }
        if let Some(own) = idle {
            let idle = change_idle(&tx, row.id, own).await?;
            let changed = NewEvent::of_user(actor.user, "workspace.idle_changed").workspace(row.id);
            happened.push(events::append(&tx, &changed.data(json!({ "idle": idle }))).await?);
        }
        tx.commit().await?;
        happened.into_iter().for_each(|logged| self.deps.bus.publish_logged(row.owner, logged));
        Ok(())
    }
}

/// Writes what `own` names over what stands there, or forgets all of it; of two who name different things at
/// once, both are heard.
async fn change_idle(tx: &DatabaseTransaction, id: WorkspaceId, own: Option<IdleSettings>) -> Result<IdleSettings> {
    for _ in 0..IDLE_TRIES {
        let before = store::find(tx, id).await?.ok_or_else(no_such)?.idle;
        let idle = own.map_or_else(IdleSettings::default, |own| own.or(before));
        if store::set_idle(tx, id, &before, &idle, now_ms()).await? {
            return Ok(idle);
        }
    }
    Err(no_such())
}
