//! The step that takes a snapshot of a settled workspace.
//!
//! ```text
//! volume made -> home copied while it runs -> frozen -> what has changed copied, root committed -> thawed -> ready
//! ```
//!
//! A commit that was begun goes on whatever becomes of us, and writes holes in files out. So what it would
//! write is measured while nothing can change it, and not begun where the host has no room for it.
//!
//! Whatever fails or is given up on the way, the row says `failed`, and the rounds of `snapshots::upkeep`
//! remove what there is of it; a workspace that is frozen then is thawed by the next pass, as `decide` says.

use super::volume::{Copied, FROM, TO, copied, copy_failed, open_copier, until_unwanted};
use super::{Driver, Progress, StepError};
use crate::disk;
use crate::hosts::{self, Host, helper::Helper};
use crate::replicas::Hold;
use crate::snapshots::store::{self, Failure, Snapshot, Taken};
use crate::time::now_ms;
use crate::workspaces::Deps;
use crate::workspaces::container::container_name;
use crate::workspaces::slot::{Report, Slot};
use crate::workspaces::store::Workspace;
use rexec_api::error::ErrorCode;
use rexec_api::guest::FILE_BYTES_MIN;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use rexec_engine::{CommitConfig, EngineError};
use sea_orm::DatabaseTransaction;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::sync::oneshot;

const GIVEN_UP: &str = "Something else was asked of the workspace while it was taken. Take it again.";
const NO_ROOT: &str = "The workspace had no container: its root file system is that of its base image.";
const NOT_STILL: &str = "The host cannot hold a workspace still: what was written meanwhile may be there in part. Stop \
    the workspace first for a snapshot of one moment.";
const NO_ROOT_OF_RUNTIME: &str =
    "Its runtime does not tell the engine what changed in the root file system: that is of the base image.";
const OVER_QUOTA: &str = "It would take more than your snapshots may take up. Delete one first.";

/// One snapshot being taken; owns all it needs, so that it can be dropped at any await.
struct Taking {
    deps: Arc<Deps>,
    lease: Hold,
    host: Arc<Host>,
    row: Workspace,
    snapshot: Snapshot,
    /// Of a workspace that runs.
    client: Option<GuestClient>,
    is_running: bool,
    laps: Laps,
}

/// How long each step took, for the log.
struct Laps(Mutex<(Instant, String)>);

impl Laps {
    fn new() -> Self {
        Self(Mutex::new((Instant::now(), String::new())))
    }

    /// The step of this name ends now; of two at once, the later says what it took longer.
    fn end(&self, step: &str) {
        let mut laps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let took = laps.0.elapsed().as_millis();
        laps.0 = Instant::now();
        laps.1.push_str(&format!("{step} {took} ms, "));
    }

    fn told(&self) -> String {
        let laps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        laps.1.trim_end_matches(", ").to_owned()
    }
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
            lease: self.lease.clone(),
            host: self.host.clone(),
            row: row.clone(),
            client: self.link.as_ref().map(|link| link.client.clone()),
            is_running: status == WorkspaceStatus::Running,
            snapshot,
            laps: Laps::new(),
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
            () = until_unwanted(&deps, &slot, row, ticket, Some(standing), wanted) => Err(Failure::given_up(GIVEN_UP)),
            () = disk::until_nearly_full(&deps, &self.host) => Err(told(&StepError::HostFull)),
        };
        tracing::debug!(workspace.id = %self.id, snapshot = %id, steps = taking.laps.told(), "a snapshot was taken or given up");
        if let Err(failure) = outcome {
            // A helper that was left in the middle would hold the volume.
            if let Err(error) = Helper::remove_of(&self.host, &taking.job()).await {
                tracing::warn!(workspace.id = %self.id, %error, "a helper stays behind until the next start");
            }
            let tx = self.lease.begin(&deps.db).await?;
            store::fail(&tx, self.id, &failure).await?;
            tx.commit().await?;
            self.host.upkeep.notify_one();
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
        let host = &self.host;
        // Before anything is frozen or copied; what grows until then is seen again, but not the number of files.
        let root_bytes = self.require_room_for_root().await?;
        let root_least = self.root_least().await?;
        // Nothing is written in it: it ends here.
        drop(self.require_quota(root_bytes.max(root_least)).await?);
        let volume = store::volume_name(self.snapshot.id);
        let mut labels = host.labels_to_give();
        labels.insert(hosts::LABEL_SNAPSHOT.into(), self.snapshot.id.to_string());
        host.engine.volume_create(&volume, &labels, None).await?;
        self.deps.crash.point("snapshot.volume");
        self.laps.end("volume");
        let helper = open_copier(host, self.job(), &self.row.volume, &volume).await?;
        self.laps.end("helper");
        let mut taken = self.copy(helper).await?;
        if taken.image_ref.is_some() {
            taken.image_bytes = taken.image_bytes.max(i64::try_from(root_least).unwrap_or(i64::MAX));
        }
        let bytes = taken.home_bytes.saturating_add(taken.image_bytes);
        let tx = self.require_quota(u64::try_from(bytes).unwrap_or(0)).await?;
        store::ready(&tx, self.snapshot.id, &taken, now_ms()).await?;
        tx.commit().await?;
        self.laps.end("record");
        self.deps.crash.point("snapshot.ready");
        Ok(())
    }

    async fn copy(&self, helper: Helper) -> Result<Taken, StepError> {
        if !self.is_running {
            let said = helper.run(&["volume", "copy", FROM, TO]).await?;
            let (home, (image_ref, reason)) = tokio::try_join!(self.copied(said, helper), self.commit())?;
            return self.taken(home.bytes, None, image_ref, reason).await;
        }
        let mut said = BufReader::new(helper.run(&["volume", "copy", "--twice", FROM, TO]).await?);
        self.laps.end("exec");
        let mut ready = String::new();
        said.read_line(&mut ready).await.map_err(copy_failed)?;
        if ready.trim() != "ready" {
            return Err(StepError::Copy(format!("the helper said {ready:?}")));
        }
        self.laps.end("first pass");
        self.deps.crash.point("snapshot.copying");
        self.hold_pings(true);
        let (engine, name) = (&self.host.engine, container_name(&self.row));
        let paused = Instant::now();
        let stands_still = self.host.ready().map_or(true, |facts| facts.engine.control_groups);
        if stands_still {
            engine.pause(&name).await?;
        }
        self.laps.end("pause");
        self.deps.crash.point("snapshot.paused");
        let (rest, still) = oneshot::channel();
        let second = async {
            said.write_all(b"go on\n").await.map_err(copy_failed)?;
            said.shutdown().await.map_err(copy_failed)?;
            let home = copied(said).await?;
            self.laps.end("second pass");
            // The helper goes while the root is committed.
            let _ = rest.send(());
            Ok(home)
        };
        let frozen = async {
            let (home, (image_ref, reason)) = tokio::try_join!(second, self.commit())?;
            self.deps.crash.point("snapshot.committed");
            if stands_still {
                engine.unpause(&name).await?;
            }
            self.hold_pings(false);
            self.laps.end("unpause");
            let pause_ms = i64::try_from(paused.elapsed().as_millis()).unwrap_or(i64::MAX);
            let reasons: Vec<String> = reason.into_iter().chain((!stands_still).then(|| NOT_STILL.into())).collect();
            let reason = (!reasons.is_empty()).then(|| reasons.join(" "));
            self.taken(home.bytes, stands_still.then_some(pause_ms), image_ref, reason).await
        };
        let closing = async {
            // Where the copy fails, so does the other, and neither goes on.
            if still.await.is_ok() {
                helper.close().await?;
                self.laps.end("helper's end");
            }
            Ok(())
        };
        let (taken, ()) = tokio::try_join!(frozen, closing)?;
        Ok(taken)
    }

    async fn copied(&self, said: impl AsyncRead + Unpin, helper: Helper) -> Result<Copied, StepError> {
        let home = copied(said).await?;
        helper.close().await?;
        Ok(home)
    }

    /// In the transaction given back, its owner has room for so much.
    async fn require_quota(&self, wanted: u64) -> Result<DatabaseTransaction, StepError> {
        let tx = self.lease.begin(&self.deps.db).await?;
        let (_, used) = store::usage(&tx, self.snapshot.owner).await?;
        let used = u64::try_from(used).unwrap_or(0);
        if used.saturating_add(wanted) > self.deps.snapshot_bytes_max {
            return Err(StepError::OverQuota);
        }
        Ok(tx)
    }

    /// What a commit of the root would write: a file of terabytes that is one hole, in full.
    async fn require_room_for_root(&self) -> Result<u64, StepError> {
        let name = container_name(&self.row);
        let bytes = match self.host.engine.written_bytes(&name).await {
            Ok(Some(bytes)) => bytes,
            // The commit says what that means.
            Ok(None) | Err(EngineError::NotFound(_)) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        match disk::spare_bytes(&self.deps, &self.host).await {
            Some(spare) if bytes > spare => Err(StepError::RootTooLarge { bytes, spare }),
            _ => Ok(bytes),
        }
    }

    /// What the files that it has changed in its root come to at the least, however empty they are.
    async fn root_least(&self) -> Result<u64, StepError> {
        match self.host.engine.written_files(&container_name(&self.row)).await {
            Ok(files) => Ok(files.unwrap_or(0).saturating_mul(FILE_BYTES_MIN)),
            Err(EngineError::NotFound(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an image of the root file system; what it cannot have of it, it says.
    async fn commit(&self) -> Result<(Option<String>, Option<String>), StepError> {
        if !tells_changes(&self.row, &self.host) {
            return Ok((None, Some(NO_ROOT_OF_RUNTIME.into())));
        }
        self.require_room_for_root().await?;
        self.laps.end("measured");
        let image = store::image_name(self.snapshot.id);
        let hidden = [hosts::LABEL_WORKSPACE, hosts::LABEL_GENERATION].map(|label| (label.to_owned(), String::new()));
        // The guest's key is in the container's environment: it must not be in an image.
        let env = vec![format!("{}=0", rexec_api::guest::KEY_VARIABLE)];
        let config = CommitConfig { labels: hidden.into(), env, pause: false };
        match self.host.engine.commit(&container_name(&self.row), &image, &config).await {
            Ok(_) => {
                self.laps.end("commit");
                Ok((Some(image), self.left_out().await?))
            }
            Err(EngineError::NotFound(_)) => Ok((None, Some(NO_ROOT.into()))),
            Err(error) => Err(error.into()),
        }
    }

    /// What its image keeps in volumes of its own, where the engine cannot do without them.
    async fn left_out(&self) -> Result<Option<String>, StepError> {
        let container = self.host.engine.inspect(&container_name(&self.row)).await?;
        let paths = container.map(|container| container.unnamed_volumes).unwrap_or_default();
        Ok((!paths.is_empty()).then(|| {
            format!(
                "What lies in {} is not in it: its image keeps that in volumes apart. Copy it to the home first.",
                paths.join(", ")
            )
        }))
    }

    async fn taken(
        &self,
        home_bytes: u64,
        pause_ms: Option<i64>,
        image_ref: Option<String>,
        reason: Option<String>,
    ) -> Result<Taken, StepError> {
        let engine = &self.host.engine;
        let size = async |image: &str| Ok::<_, EngineError>(engine.image(image).await?.map_or(0, |i| i.size_bytes));
        let image_bytes = match &image_ref {
            Some(image) => size(image).await?.saturating_sub(size(&self.snapshot.base_image).await?),
            None => 0,
        };
        self.laps.end("sizes");
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(Taken { image_ref, image_bytes: bytes(image_bytes), home_bytes: bytes(home_bytes), pause_ms, reason })
    }

    fn hold_pings(&self, held: bool) {
        if let Some(client) = &self.client {
            client.hold_pings(held);
        }
    }
}

/// Whether an engine knows what a workspace has changed in its root: one of these runtimes changes it where the engine
/// keeps it.
pub(super) fn tells_changes(row: &Workspace, host: &Host) -> bool {
    let runtime = match row.runtime.as_str() {
        "" => host.ready().map(|facts| facts.engine.default_runtime.clone()).unwrap_or_default(),
        named => named.to_owned(),
    };
    matches!(runtime.as_str(), "runc" | "crun" | "youki" | "io.containerd.runc.v2")
}

/// A failure as its owner is told it; the particulars go to the log.
fn told(error: &StepError) -> Failure {
    tracing::warn!(error = error as &dyn std::error::Error, "a snapshot could not be taken");
    match error {
        StepError::Engine(EngineError::Refused(why)) if why.contains("max depth") => Failure::new(
            ErrorCode::EngineError,
            "It would be a copy of a copy too many times over. Take one of a workspace that began as a plain image.",
        ),
        StepError::Engine(error) => {
            let code = match error {
                EngineError::Unavailable(_) => ErrorCode::EngineUnavailable,
                EngineError::DiskFull(_) => ErrorCode::DiskFull,
                _ => ErrorCode::EngineError,
            };
            Failure::new(code, hosts::explain(error))
        }
        StepError::OverQuota => Failure::new(ErrorCode::QuotaExceeded, OVER_QUOTA),
        StepError::HostFull => Failure::new(ErrorCode::HostFull, disk::NEARLY_FULL),
        StepError::RootTooLarge { bytes, spare } => {
            let gb = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let reason = format!(
                "The files that it has changed outside of its home come to {:.1} GiB, holes in them counted in full, and \
                 the host has {:.1} GiB left for a copy of them. Remove large files there, or keep them in its home.",
                gb(*bytes),
                gb(*spare)
            );
            Failure::new(ErrorCode::HostFull, reason)
        }
        StepError::SourceGone => Failure::new(ErrorCode::EngineError, "The host has the workspace's home no more."),
        _ => Failure::new(
            ErrorCode::EngineError,
            "Its files could not be copied. Take it again; the server's log says why.",
        ),
    }
}
