//! The step that brings a stopped workspace to another host.
//!
//! ```text
//! root committed at the source -> home's volume made at the target -> both carried there, verified -> root committed there
//!   -> one transaction: the row says the new host
//! ```
//!
//! Up to the transaction the workspace is what it was, where it was; from it on it is whole at the target, stopped, and its
//! container is made there at its next start. Whatever fails is told on the row and its remains are let go. A server that
//! dies leaves the move wanted: the next one begins it again. What lies at the source goes once the workspace has run at
//! the target.

use super::snapshot::tells_changes;
use super::volume::until_unwanted;
use super::{Driver, Progress, StepError};
use crate::disk;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::hosts::{self, Host, LABEL_HELPER};
use crate::replicas::Hold;
use crate::snapshots::archive::{Transfer, of_engine};
use crate::snapshots::plan::SnapshotPlan;
use crate::snapshots::store::image_name;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::Deps;
use crate::workspaces::container::{self, container_name};
use crate::workspaces::moving::store::{self, Landed, Move};
use crate::workspaces::slot::{Report, Slot};
use crate::workspaces::store::Workspace;
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::{CommitConfig, EngineError};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

const GIVEN_UP: &str = "Something else was asked of the workspace while it was moved. Move it again.";
const ON_ITS_WAY: &str = "It is being moved to another server.";
const NOT_TOLD: &str = "Its runtime does not tell the engine what changed in the root file system, so that it cannot be moved \
    whole. Take a snapshot, and make a new workspace of that at another server.";

/// One move being carried out; owns all it needs, so that it can be dropped at any await.
struct Relocation {
    deps: Arc<Deps>,
    lease: Hold,
    slot: Arc<Slot>,
    from: Arc<Host>,
    to: Arc<Host>,
    row: Workspace,
    wanted: Move,
    /// Held while an engine makes an image, which it does to its end whoever still waits for that.
    committing: Arc<Semaphore>,
}

impl Driver {
    pub(super) async fn relocate(&mut self, ticket: u64, row: &Workspace) -> std::result::Result<Progress, StepError> {
        let Some(wanted) = store::wanted(self.deps.db.read(), self.id).await? else {
            return Ok(Progress::Again(None));
        };
        self.unlink();
        self.observe(ticket, row, WorkspaceStatus::Stopped, Some(ON_ITS_WAY), |_| {}).await?;
        let (deps, slot) = (self.deps.clone(), self.slot.clone());
        let to = deps.fleet.of(Some(wanted.to));
        let relocation = Relocation {
            deps: deps.clone(),
            lease: self.lease.clone(),
            slot: slot.clone(),
            from: self.host.clone(),
            to: to.clone(),
            row: row.clone(),
            wanted: wanted.clone(),
            committing: Arc::new(Semaphore::new(1)),
        };
        let standing = Report {
            ticket,
            status: WorkspaceStatus::Stopped,
            error: None,
            reason: Some(ON_ITS_WAY.into()),
            done: true,
        };
        // Another may have failed it: the server that it goes to was written off.
        let (db, id) = (&deps.db, wanted.id);
        let still_wanted = async || !store::has_failed(db.read(), id).await.unwrap_or(false);
        let done = tokio::select! {
            done = relocation.run() => done,
            () = until_unwanted(&deps, &slot, row, ticket, Some(standing), still_wanted) => {
                Err(Error::new(ErrorCode::MoveGivenUp, GIVEN_UP))
            }
            () = disk::until_nearly_full(&deps, &to) => Err(disk::nearly_full()),
        };
        slot.tell_moved(None);
        if let Err(error) = done {
            tracing::warn!(
                workspace.id = %self.id, code = error.code.as_str(), causes = error.causes(), "a workspace was not moved"
            );
            Transfer::end(&relocation.job(), [&relocation.from, &to]).await;
            // An image that comes later than that would be nobody's. It is never closed.
            drop(relocation.committing.acquire().await);
            self.fail_move(&wanted, error.code, &error.message).await?;
        }
        Ok(Progress::Again(None))
    }

    /// Something else is wanted of it.
    pub(super) async fn give_up_move(&mut self) -> std::result::Result<(), StepError> {
        match store::wanted(self.deps.db.read(), self.id).await? {
            Some(wanted) => self.fail_move(&wanted, ErrorCode::MoveGivenUp, GIVEN_UP).await,
            None => Ok(()),
        }
    }

    async fn fail_move(&mut self, wanted: &Move, code: ErrorCode, reason: &str) -> std::result::Result<(), StepError> {
        let tx = self.lease.begin(&self.deps.db).await?;
        store::fail(&tx, wanted, code, reason).await?;
        tx.commit().await?;
        for host in [wanted.from, wanted.to] {
            self.deps.fleet.of(Some(host)).upkeep.notify_one();
        }
        Ok(())
    }

    /// It runs where it is: what it left elsewhere may go.
    pub(super) async fn prove_moves(&mut self) -> std::result::Result<(), StepError> {
        let tx = self.lease.begin(&self.deps.db).await?;
        let left = store::prove(&tx, self.id).await?;
        tx.commit().await?;
        self.deps.crash.point("move.proven");
        left.into_iter().for_each(|host| self.deps.fleet.of(Some(host)).upkeep.notify_one());
        Ok(())
    }
}

impl Relocation {
    fn job(&self) -> String {
        format!("move-{}", self.wanted.id.0.simple())
    }

    async fn run(&self) -> Result<()> {
        self.to.ready_or_tried().await.map_err(|why| Error::new(ErrorCode::EngineUnavailable, why))?;
        // They keep both hosts' disks busy. It is never closed.
        let _turn = self.deps.moves.acquire().await.map_err(Error::internal)?;
        // An earlier attempt, of a server that died, may have left anything of these.
        Transfer::end(&self.job(), [&self.from, &self.to]).await;
        let image = self.root().await?;
        self.deps.crash.point("move.committed");
        self.make_home().await?;
        self.deps.crash.point("move.volume");
        let carried = self.transfer(image).await?.carry(|bytes| self.slot.tell_moved(Some(bytes))).await?;
        self.deps.crash.point("move.unpacked");
        let there = image_name(self.wanted.id);
        let hidden = [(LABEL_HELPER.to_owned(), String::new())].into();
        let config = CommitConfig { labels: hidden, env: carried.env, pause: false };
        self.commit(&self.to, carried.helper.container(), &there, config).await?;
        carried.helper.close().await.map_err(of_engine)?;
        self.deps.crash.point("move.made");
        self.land(&there, carried.bytes, &carried.digest).await
    }

    /// An image of the root file system as it is now.
    async fn root(&self) -> Result<String> {
        let (engine, name) = (&self.from.engine, container_name(&self.row));
        let Some(container) = engine.inspect(&name).await.map_err(of_engine)? else {
            // It has not run since it came here: all of it is in its image.
            return Ok(self.row.image.clone());
        };
        if !tells_changes(&self.row, &self.from) {
            return Err(Error::new(ErrorCode::UnsupportedByHost, NOT_TOLD));
        }
        if !container.unnamed_volumes.is_empty() {
            let message = format!(
                "What lies in {} cannot be moved: its image keeps that in volumes apart. Copy it to the home, and remove it there.",
                container.unnamed_volumes.join(", ")
            );
            return Err(Error::new(ErrorCode::UnsupportedByHost, message));
        }
        let written = engine.written_bytes(&name).await.map_err(of_engine)?.unwrap_or(0);
        if disk::spare_bytes(&self.deps, &self.from).await.is_some_and(|spare| written > spare) {
            let message = "The server that it lies on has not the room to take its root file system apart. Remove large files outside \
                           of its home, or have some space freed there.";
            return Err(Error::new(ErrorCode::HostFull, message).details(json!({ "resource": "disk" })));
        }
        let image = image_name(self.wanted.from_snapshot);
        let hidden = [hosts::LABEL_WORKSPACE, hosts::LABEL_GENERATION].map(|label| (label.to_owned(), String::new()));
        // The guest's key is in the container's environment: it must not be in an image.
        let env = vec![format!("{}=0", rexec_api::guest::KEY_VARIABLE)];
        let config = CommitConfig { labels: hidden.into(), env, pause: false };
        self.commit(&self.from, &name, &image, config).await?;
        Ok(image)
    }

    async fn commit(&self, host: &Arc<Host>, container: &str, image: &str, config: CommitConfig) -> Result<()> {
        let turn = self.committing.clone().acquire_owned().await.map_err(Error::internal)?;
        let (host, container, image) = (host.clone(), container.to_owned(), image.to_owned());
        let made = tokio::spawn(async move {
            let _turn = turn;
            host.engine.commit(&container, &image, &config).await.map(drop)
        });
        made.await.map_err(Error::internal)?.map_err(of_engine)
    }

    /// An empty volume at the target, with the workspace's own limit.
    async fn make_home(&self) -> Result<()> {
        let (engine, volume) = (&self.to.engine, &self.wanted.to_volume);
        match engine.remove_volume(volume).await {
            Ok(()) | Err(EngineError::NotFound(_)) => {}
            Err(error) => return Err(of_engine(error)),
        }
        let holds = self.to.ready().is_ok_and(|facts| facts.disk.volumes);
        let size = container::disk_bytes(&self.row).filter(|_| holds);
        engine.volume_create(volume, &container::home_labels(&self.row, &self.to), size).await.map_err(of_engine)
    }

    async fn transfer(&self, image: String) -> Result<Transfer<'_>> {
        let gone = || {
            let message = "The server that it lies on has a part of it no more: somebody removed it there.";
            Error::new(ErrorCode::EngineError, message)
        };
        let info = self.from.engine.image(&image).await.map_err(of_engine)?.ok_or_else(gone)?;
        if !self.from.engine.has_volume(&self.row.volume).await.map_err(of_engine)? {
            return Err(gone());
        }
        let about = crate::snapshots::archive::manifest::About {
            name: self.row.name.clone(),
            workspace_name: self.row.name.clone(),
            created_at: rfc3339(now_ms()),
            image: self.row.image.clone(),
            pause_ms: None,
            architecture: info.architecture,
            image_env: info.env,
        };
        Ok(Transfer {
            job: self.job(),
            from: &self.from,
            to: &self.to,
            image,
            from_volume: &self.row.volume,
            to_volume: &self.wanted.to_volume,
            about,
            plan: SnapshotPlan::of(&self.row),
        })
    }

    async fn land(&self, image: &str, bytes: u64, digest: &str) -> Result<()> {
        let tx = self.lease.begin(&self.deps.db).await?;
        if !store::land(&tx, &self.wanted, &Landed { image, now_ms: now_ms() }).await? {
            return Err(Error::new(ErrorCode::MoveGivenUp, GIVEN_UP));
        }
        let event = NewEvent::of_user(self.row.owner, "workspace.moved").workspace(self.row.id);
        let data = json!({
            "from_region": self.from.region, "region": self.to.region, "bytes": bytes, "sha256": digest,
        });
        let logged = events::append(&tx, &event.data(data)).await?;
        tx.commit().await?;
        self.deps.crash.point("move.landed");
        self.deps.bus.publish_logged(self.row.owner, logged);
        tracing::info!(workspace.id = %self.row.id, from = self.from.name, to = self.to.name, bytes, "moved a workspace");
        Ok(())
    }
}
