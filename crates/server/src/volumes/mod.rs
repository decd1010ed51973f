//! Volumes: the homes of workspaces. A deleted workspace's home is kept for a while, can be restored
//! as a workspace, and is then removed for good.
//!
//! Invariant: a home is removed only when its own record says so (`purging`), or when its workspace
//! is deleted together with it; what has no record is never touched.

pub mod http;
pub mod store;
mod upkeep;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::hosts::Host;
use crate::page;
use crate::snapshots;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::{Deps, Outcome, Workspaces, moving};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::ids::VolumeId;
use rexec_api::tokens::Scope;
use rexec_api::volumes::{RestoreVolume, VolumeState, VolumeView};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::Volume;

/// How often images are looked for that snapshots left behind, and whenever the host has changed.
const SWEEP_EVERY: Duration = Duration::from_secs(900);

#[derive(Clone)]
pub struct Volumes {
    deps: Arc<Deps>,
    workspaces: Workspaces,
    purge_every: Duration,
}

impl Volumes {
    pub fn new(workspaces: Workspaces, purge_every: Duration) -> Self {
        Self { deps: workspaces.deps(), workspaces, purge_every }
    }

    pub async fn list(&self, actor: &Actor, before: Option<VolumeId>) -> Result<Page<VolumeView>> {
        actor.authorise_list(Scope::WorkspacesRead)?;
        let rows = store::list(self.deps.db.read(), actor.user, actor.limit(), before).await?;
        Ok(page::of(rows, |row| row.id.to_string(), view))
    }

    pub async fn get(&self, actor: &Actor, id: VolumeId) -> Result<VolumeView> {
        Ok(view(&self.owned(actor, Scope::WorkspacesRead, id).await?))
    }

    /// Makes a workspace on a kept home.
    pub async fn restore(&self, actor: &Actor, id: VolumeId, request: RestoreVolume) -> Result<Outcome> {
        actor.authorise(Scope::WorkspacesWrite)?;
        let volume = self.kept(actor, id).await?;
        self.workspaces.restore(actor, &volume, request).await
    }

    /// Removes a kept home for good.
    pub async fn purge(&self, actor: &Actor, id: VolumeId) -> Result<()> {
        let volume = self.kept(actor, id).await?;
        let tx = self.deps.db.begin().await?;
        if !store::condemn(&tx, volume.id).await? {
            return Err(no_such());
        }
        let event = crate::events::NewEvent::of_user(actor.user, "volume.purged").workspace(volume.workspace);
        let logged = crate::events::append(&tx, &event.data(json!({ "volume": volume.id }))).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(actor.user, logged);
        self.deps.fleet.of(volume.host).upkeep.notify_one();
        Ok(())
    }

    async fn owned(&self, actor: &Actor, scope: Scope, id: VolumeId) -> Result<Volume> {
        actor.authorise_list(scope)?;
        let found = store::find(self.deps.db.read(), id).await?;
        found.filter(|row| actor.owns(row.owner) && actor.reaches(row.workspace)).ok_or_else(no_such)
    }

    async fn kept(&self, actor: &Actor, id: VolumeId) -> Result<Volume> {
        let volume = self.owned(actor, Scope::WorkspacesWrite, id).await?;
        match volume.state {
            VolumeState::Kept => Ok(volume),
            VolumeState::InUse => Err(Error::new(
                ErrorCode::WorkspaceBusy,
                format!("It is the home of the workspace {}. Delete that first.", volume.workspace_name),
            )
            .details(json!({ "doing": "in_use", "workspace_id": volume.workspace }))),
        }
    }

    async fn round(&self, host: &Host) -> std::result::Result<(), sea_orm::DbErr> {
        moving::upkeep::round(&self.deps, host).await?;
        upkeep::round(&self.deps, host, now_ms()).await?;
        snapshots::upkeep::round(&self.deps, host).await
    }

    /// Removes what is to be removed, of homes and of snapshots on this host, until dropped.
    pub async fn keep_up(self, host: Arc<Host>) {
        let mut period = tokio::time::interval(self.purge_every);
        let mut state = host.watch();
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                _ = sweeps.tick(), if host.ready().is_ok() => {
                    if let Err(error) = snapshots::upkeep::sweep(&self.deps, &host).await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for what snapshots left");
                    }
                    continue;
                }
                () = host.upkeep.notified() => {}
                // What could not be removed while the engine was away.
                _ = state.changed() => sweeps.reset_immediately(),
            }
            if host.ready().is_ok()
                && let Err(error) = self.round(&host).await
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot remove what is to be purged yet");
            }
        }
    }
}

fn view(row: &Volume) -> VolumeView {
    VolumeView {
        id: row.id,
        workspace_id: row.workspace,
        workspace_name: row.workspace_name.clone(),
        state: row.state,
        size_bytes: row.size_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        created_at: rfc3339(row.created_ms),
        kept_at: row.kept_ms.filter(|_| row.state == VolumeState::Kept).map(rfc3339),
        purge_after: row.purge_after_ms.map(rfc3339),
    }
}

fn no_such() -> Error {
    Error::not_found("volume")
}
