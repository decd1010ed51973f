//! The step that takes a snapshot of a settled workspace.
//!
//! ```text
//! volume made -> home copied while it runs -> frozen -> what has changed copied, root committed -> thawed -> ready
//! ```
//!
//! Whatever fails or is given up on the way, the row says `failed`, and the rounds of `snapshots::upkeep`
//! remove what there is of it; a workspace that is frozen then is thawed by the next pass, as `decide` says.

use super::volume::{FROM, TO, copied, copy_failed, open_copier, until_unwanted};
use super::{Driver, Progress, StepError};
use crate::hosts::{self, helper::Helper};
use crate::snapshots::store::{self, Snapshot, Taken};
use crate::time::now_ms;
use crate::workspaces::Deps;
use crate::workspaces::container::container_name;
use crate::workspaces::slot::{Report, Slot};
use crate::workspaces::store::Workspace;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use rexec_engine::{CommitConfig, EngineError};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

const GIVEN_UP: &str = "Something else was asked of the workspace while it was taken. Take it again.";
const NO_ROOT: &str = "The workspace had no container: its root file system is that of its base image.";
const NO_ROOT_OF_RUNTIME: &str =
    "Its runtime does not tell the engine what changed in the root file system: that is of the base image.";
const OVER_QUOTA: &str = "It would take more than your snapshots may take up. Delete one first.";

/// One snapshot being taken; owns all it needs, so that it can be dropped at any await.
struct Taking {
    deps: Arc<Deps>,
    row: Workspace,
    snapshot: Snapshot,
    /// Of a workspace that runs.
    client: Option<GuestClient>,
    is_running: bool,
}

impl Driver {
    pub(super) async fn snapshot(
        &mut self,
        ticket: u64,
        row: &Workspace,
        status: WorkspaceStatus,
    ) -> Result<Progress, StepError> {
        let Some(snapshot) = store::taking(self.deps.db.read(), self.id).await? else {
            return Ok(Progress::Again(None));
        };
        let (deps, slot): (Arc<Deps>, Arc<Slot>) = (self.deps.clone(), self.slot.clone());
        let taking = Taking {
            deps: deps.clone(),
            row: row.clone(),
            client: self.link.as_ref().map(|link| link.client.clone()),
            is_running: status == WorkspaceStatus::Running,
            snapshot,
        };
        let standing = Report { ticket, status, error: None, reason: row.status_reason.clone(), done: true };
        let id = taking.snapshot.id;
        let (asked, workspace) = (deps.clone(), row.id);
        let wanted = move || {
            let asked = asked.clone();
            async move { matches!(store::taking(asked.db.read(), workspace).await, Ok(Some(now)) if now.id == id) }
        };
        let outcome = tokio::select! {
            outcome = taking.run() => outcome.map_err(|error| told(&error)),
            () = until_unwanted(&deps, &slot, row, ticket, Some(standing), wanted) => Err(GIVEN_UP.to_owned()),
        };
        if let Err(reason) = outcome {
            // A helper that was left in the middle would hold the volume.
            if let Err(error) = Helper::remove_of(&deps.host, &taking.job()).await {
                tracing::warn!(workspace.id = %self.id, %error, "a helper stays behind until the next start");
            }
            store::fail(deps.db.write(), self.id, &reason).await?;
            deps.upkeep.notify_one();
        }
        deps.snapshot_news.send_modify(|count| *count += 1);
        Ok(Progress::Again(None))
    }
}

impl Taking {
    fn job(&self) -> String {
        format!("snapshot-{}", self.snapshot.id.0.simple())
    }

    async fn run(&self) -> Result<(), StepError> {
        let host = &self.deps.host;
        let volume = store::volume_name(self.snapshot.id);
        let mut labels = host.labels_to_give();
        labels.insert(hosts::LABEL_SNAPSHOT.into(), self.snapshot.id.to_string());
        host.engine.volume_create(&volume, &labels, None).await?;
        self.deps.crash.point("snapshot.volume");
        let helper = open_copier(&self.deps, self.job(), &self.row.volume, &volume).await?;
        let taken = self.copy(&helper).await;
        helper.close().await?;
        let taken = taken?;
        let tx = self.deps.db.begin().await?;
        let (_, bytes) = store::usage(&tx, self.snapshot.owner).await?;
        let bytes = bytes.saturating_add(taken.home_bytes).saturating_add(taken.image_bytes);
        if u64::try_from(bytes).unwrap_or(0) > self.deps.snapshot_bytes_max {
            return Err(StepError::OverQuota);
        }
        store::ready(&tx, self.snapshot.id, &taken, now_ms()).await?;
        tx.commit().await?;
        self.deps.crash.point("snapshot.ready");
        Ok(())
    }

    async fn copy(&self, helper: &Helper) -> Result<Taken, StepError> {
        if !self.is_running {
            let said = helper.run(&["volume", "copy", FROM, TO]).await?;
            let (home, (image_ref, reason)) = tokio::try_join!(copied(said), self.commit())?;
            return self.taken(home.bytes, None, image_ref, reason).await;
        }
        let mut said = BufReader::new(helper.run(&["volume", "copy", "--twice", FROM, TO]).await?);
        let mut ready = String::new();
        said.read_line(&mut ready).await.map_err(copy_failed)?;
        if ready.trim() != "ready" {
            return Err(StepError::Copy(format!("the helper said {ready:?}")));
        }
        self.deps.crash.point("snapshot.copying");
        self.hold_pings(true);
        let (engine, name) = (&self.deps.host.engine, container_name(&self.row));
        let paused = Instant::now();
        engine.pause(&name).await?;
        self.deps.crash.point("snapshot.paused");
        let rest = async {
            said.write_all(b"go on\n").await.map_err(copy_failed)?;
            said.shutdown().await.map_err(copy_failed)?;
            copied(said).await
        };
        let (home, (image_ref, reason)) = tokio::try_join!(rest, self.commit())?;
        self.deps.crash.point("snapshot.committed");
        engine.unpause(&name).await?;
        self.hold_pings(false);
        let pause_ms = i64::try_from(paused.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.taken(home.bytes, Some(pause_ms), image_ref, reason).await
    }

    /// Makes an image of the root file system; what it cannot have of it, it says.
    async fn commit(&self) -> Result<(Option<String>, Option<String>), StepError> {
        let runtime = match self.row.runtime.as_str() {
            "" => self.deps.host.ready().map(|facts| facts.engine.default_runtime.clone()).unwrap_or_default(),
            named => named.to_owned(),
        };
        if !matches!(runtime.as_str(), "runc" | "crun" | "youki" | "io.containerd.runc.v2") {
            return Ok((None, Some(NO_ROOT_OF_RUNTIME.into())));
        }
        let image = store::image_name(self.snapshot.id);
        let hidden = [hosts::LABEL_WORKSPACE, hosts::LABEL_GENERATION].map(|label| (label.to_owned(), String::new()));
        // The guest's key is in the container's environment: it must not be in an image.
        let env = vec![format!("{}=0", rexec_api::guest::KEY_VARIABLE)];
        let config = CommitConfig { labels: hidden.into(), env, pause: false };
        match self.deps.host.engine.commit(&container_name(&self.row), &image, &config).await {
            Ok(_) => Ok((Some(image), None)),
            Err(EngineError::NotFound(_)) => Ok((None, Some(NO_ROOT.into()))),
            Err(error) => Err(error.into()),
        }
    }

    async fn taken(
        &self,
        home_bytes: u64,
        pause_ms: Option<i64>,
        image_ref: Option<String>,
        reason: Option<String>,
    ) -> Result<Taken, StepError> {
        let engine = &self.deps.host.engine;
        let size = async |image: &str| Ok::<_, EngineError>(engine.image(image).await?.map_or(0, |i| i.size_bytes));
        let image_bytes = match &image_ref {
            Some(image) => size(image).await?.saturating_sub(size(&self.snapshot.base_image).await?),
            None => 0,
        };
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(Taken { image_ref, image_bytes: bytes(image_bytes), home_bytes: bytes(home_bytes), pause_ms, reason })
    }

    fn hold_pings(&self, held: bool) {
        if let Some(client) = &self.client {
            client.hold_pings(held);
        }
    }
}

/// A failure as its owner is told it; the particulars go to the log.
fn told(error: &StepError) -> String {
    tracing::warn!(error = error as &dyn std::error::Error, "a snapshot could not be taken");
    match error {
        StepError::Engine(EngineError::Refused(why)) if why.contains("max depth") => {
            "It would be a copy of a copy too many times over. Take one of a workspace that began as a plain image."
                .into()
        }
        StepError::Engine(error) => hosts::explain(error),
        StepError::OverQuota => OVER_QUOTA.into(),
        StepError::SourceGone => "The host has the workspace's home no more.".into(),
        _ => "Its files could not be copied. Take it again; the server's log says why.".into(),
    }
}
