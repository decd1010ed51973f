//! A workspace on the home of a deleted one: made as that was, with a key of its own.

use super::capacity::Capacity;
use super::plan::Plan;
use super::store::{self, SourceState, Workspace};
use super::{Outcome, Workspaces, choice, incident, validate};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::hosts::placement::Wanted;
use crate::hosts::{Host, regions, reserve};
use crate::setups;
use crate::snapshots;
use crate::volumes;
use crate::volumes::store::Volume;
use rexec_api::egress::EgressSettings;
use rexec_api::error::ErrorCode;
use rexec_api::tokens::Scope;
use rexec_api::volumes::RestoreVolume;
use rexec_api::workspaces::{NewWorkspace, WAIT_MS_DEFAULT};
use serde_json::json;
use std::time::Duration;

impl Workspaces {
    /// `volume` is the actor's own and kept.
    pub(crate) async fn restore(&self, actor: &Actor, volume: &Volume, request: RestoreVolume) -> Result<Outcome> {
        // Checks as those of a creation that names as much.
        let asked = NewWorkspace { name: request.name, wait_ms: request.wait_ms, ..Default::default() };
        validate::new_workspace(&asked)?;
        let wanted = Wanted { near: volume.host, ..Wanted::default() };
        let host = self.hosts_for(actor, &wanted).await?.into_iter().next().ok_or_else(choice::all_full)?;
        let capacity = Capacity::of(&self.require_runtime(&host, None).await?.engine);
        require_volume(&host, volume).await?;
        self.require_space(&host).await?;
        let row = capacity.fit(self.record_restored(actor, &host, volume, &asked).await?);
        self.require_nesting(&row).await?;
        let _turn = self.turn_to_record().await;
        let tx = self.deps.db.begin().await?;
        self.require_room(&tx).await?;
        regions::require_place(&tx, &host.region).await?;
        if !volumes::store::take(&tx, volume.id, row.id).await? {
            return Err(Error::not_found("volume"));
        }
        reserve::hold_home(&tx, volume.workspace, &volume.name, 0).await?;
        self.insert_on(&tx, &host, &row).await?;
        // The root file system is made anew from the image, and so is what prepared it; a repository is in the home.
        for step in setups::steps_of(row.id, row.source_state == SourceState::Wanted, &Plan::of_row(&row).setup) {
            setups::store::insert(&tx, &step).await?;
        }
        let restored = NewEvent::of_user(actor.user, "workspace.restored").workspace(row.id);
        let data = json!({
            "name": row.name, "volume": volume.id, "from": volume.workspace, "image": row.image,
            "snapshot_gone": row.status_reason.is_some(),
        });
        let logged = events::append(&tx, &restored.data(data)).await?;
        tx.commit().await?;
        let made = logged.id;
        self.deps.bus.publish_logged(actor.user, logged);
        self.deps.setup_wanted.notify_one();
        let wait = Duration::from_millis(request.wait_ms.unwrap_or(WAIT_MS_DEFAULT));
        self.bring_up(actor, &row, made, wait).await
    }

    async fn record_restored(
        &self,
        actor: &Actor,
        host: &Host,
        volume: &Volume,
        asked: &NewWorkspace,
    ) -> Result<Workspace> {
        let fresh = self.record(actor.user, asked, host);
        let name = asked.name.clone().unwrap_or_else(|| volume.workspace_name.clone());
        let volume = volume.name.clone();
        // Without a tombstone it begins as any other workspace.
        let Some(before) = store::find_buried(self.deps.db.read(), &volume).await? else {
            return Ok(Workspace { name, volume, ..fresh });
        };
        let image = snapshots::store::living_image(self.deps.db.read(), &before.image).await?;
        let is_gone = image != before.image;
        Ok(Workspace {
            // Its driver tells this once it runs.
            status_reason: is_gone.then(|| incident::snapshot_gone(&image)),
            source_snapshot: before.source_snapshot.filter(|_| !is_gone),
            image,
            runtime: self.inherited_runtime(host, before.runtime),
            id: fresh.id,
            name,
            volume,
            owner: fresh.owner,
            host: fresh.host,
            guest_key: fresh.guest_key,
            created_ms: fresh.created_ms,
            intent: fresh.intent,
            want: fresh.want,
            status: fresh.status,
            error_code: None,
            generation: 0,
            home_state: fresh.home_state,
            limits_seq: 0,
            wish: None,
            rest: fresh.rest,
            limits_applied_seq: 0,
            started_ms: None,
            last_active_ms: None,
            stopped_ms: None,
            delete_warned_ms: None,
            delete_told_ms: None,
            pool: None,
            moving: None,
            egress: before
                .egress
                // The same owner's, to whoever may give them.
                .map(|own| match actor.authorise(Scope::Account) {
                    Ok(()) => EgressSettings {
                        secrets: own.secrets.clone(),
                        github: own.github.clone().filter(|_| self.deps.vault.github().is_offered_to(actor.role)),
                        ..self.inherited_egress(own)
                    },
                    Err(_) => self.inherited_egress(own),
                })
                .or(fresh.egress),
            egress_seq: fresh.egress_seq,
            egress_applied_seq: 0,
            address: None,
            gateway: None,
            ..before
        })
    }
}

/// A home that somebody removed at the engine would come back empty.
async fn require_volume(host: &Host, volume: &Volume) -> Result<()> {
    let there = host.engine.has_volume(&volume.name).await;
    if there.map_err(|error| Error::new(ErrorCode::EngineUnavailable, crate::hosts::explain(&error)))? {
        return Ok(());
    }
    Err(Error::new(ErrorCode::NotFound, "The host has that home no more: somebody removed its volume there."))
}
