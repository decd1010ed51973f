//! A snapshot on its way in.
//!
//! ```text
//! recorded -> volume made -> unpacked by a helper into its own root and the volume -> its root committed -> ready
//! ```

use super::manifest::{Arrived, over_quota, refused, too_large};
use super::{HOME, PIECES_MAX, ROOT, home_mount, of_engine, of_stream, stopping, too_many};
use crate::actor::Actor;
use crate::disk;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::hosts::delivery::EMPTY_IMAGE;
use crate::hosts::helper::{Helper, HelperSpec};
use crate::hosts::{Host, LABEL_HELPER, LABEL_SNAPSHOT};
use crate::snapshots::store::{self, Imported, Snapshot, Taken};
use crate::snapshots::{Snapshots, plan};
use crate::time::now_ms;
use crate::workspaces::{Deps, validate};
use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{SnapshotId, WorkspaceId};
use rexec_api::snapshots::{SnapshotState, SnapshotView};
use rexec_api::tokens::Scope;
use rexec_engine::{ByteStream, CommitConfig};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::sync::{mpsc, oneshot};

/// The longest line that a helper says: a manifest with the largest environment.
pub(super) const LINE_BYTES_MAX: u64 = 32 << 20;
/// What a snapshot is called until its archive has said its name.
const UNNAMED: &str = "import";

/// What comes of an archive's body.
pub enum Piece {
    Bytes(Bytes),
    /// All of it has come. Without this it has broken off.
    End,
}

/// An import that takes in its archive.
pub struct Import {
    id: SnapshotId,
    pieces: mpsc::Sender<Piece>,
    outcome: oneshot::Receiver<Result<()>>,
}

impl Import {
    /// `false`: it is over already; [`Snapshots::imported`] tells how.
    pub async fn send(&self, piece: Piece) -> bool {
        self.pieces.send(piece).await.is_ok()
    }
}

impl Snapshots {
    /// Records a snapshot that comes as an archive. Dropped before its end, it is taken back.
    pub async fn import(&self, actor: &Actor, name: Option<String>) -> Result<Import> {
        actor.authorise(Scope::Snapshots)?;
        if let Some(name) = &name {
            validate::name(name)?;
        }
        let turn = self.transfers.take(actor.user).map_err(too_many)?;
        let host = self.deps.fleet.local();
        host.ready_or_tried().await.map_err(|why| Error::new(ErrorCode::EngineUnavailable, why))?;
        disk::require_space(&self.deps, &host).await?;
        let snapshot = self.record_import(actor, &host, name.clone()).await?;
        self.deps.crash.point("import.recorded");
        let id = snapshot.id;
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let (told, outcome) = oneshot::channel();
        let (deps, tasks) = (self.deps.clone(), self.tasks.clone());
        self.tasks.spawn("import", async move {
            let unpacking = Unpacking { deps, host, snapshot, name };
            let done = tokio::select! {
                done = unpacking.run(receiver) => done,
                () = tasks.stopping() => Err(stopping()),
                () = disk::until_nearly_full(&unpacking.deps, &unpacking.host) => Err(disk::nearly_full()),
            };
            if done.is_err() {
                unpacking.take_back().await;
            }
            // Whoever asked may have gone.
            let _ = told.send(done);
            drop(turn);
        });
        Ok(Import { id, pieces, outcome })
    }

    /// What came of it.
    pub async fn imported(&self, actor: &Actor, import: Import) -> Result<SnapshotView> {
        drop(import.pieces);
        import.outcome.await.map_err(|_| stopping())??;
        self.get(actor, import.id).await
    }

    async fn record_import(&self, actor: &Actor, host: &Host, name: Option<String>) -> Result<Snapshot> {
        let id = SnapshotId::new();
        let tx = self.deps.db.begin().await?;
        let (count, bytes) = store::usage(&tx, actor.user).await?;
        plan::allow(count, bytes, &self.quota)?;
        let snapshot = Snapshot {
            id,
            owner: actor.user,
            // That of the archive may be anybody's here.
            workspace: WorkspaceId::new(),
            workspace_name: String::new(),
            host: Some(host.id),
            name: name.unwrap_or_else(|| UNNAMED.into()),
            state: SnapshotState::Taking,
            reason: None,
            error_code: None,
            image_ref: Some(store::image_name(id)),
            volume: Some(store::volume_name(id)),
            base_image: self.workspace_image.clone(),
            plan_json: "{}".into(),
            image_bytes: 0,
            home_bytes: 0,
            pause_ms: None,
            clones: 0,
            created_ms: now_ms(),
        };
        store::insert(&tx, &snapshot).await?;
        tx.commit().await?;
        Ok(snapshot)
    }
}

struct Unpacking {
    deps: Arc<Deps>,
    host: Arc<Host>,
    snapshot: Snapshot,
    /// What the owner wants it to be called.
    name: Option<String>,
}

impl Unpacking {
    fn job(&self) -> String {
        format!("import-{}", self.snapshot.id.0.simple())
    }

    async fn run(&self, pieces: mpsc::Receiver<Piece>) -> Result<()> {
        let host = &self.host;
        let volume = store::volume_name(self.snapshot.id);
        let mut labels = host.labels_to_give();
        labels.insert(LABEL_SNAPSHOT.into(), self.snapshot.id.to_string());
        host.engine.volume_create(&volume, &labels, None).await.map_err(of_engine)?;
        self.deps.crash.point("import.volume");
        let spec = HelperSpec { job: self.job(), mounts: vec![home_mount(&volume, false)], ..HelperSpec::default() };
        let helper = Helper::open(host, spec).await.map_err(of_engine)?;
        let stream = helper.run(&["volume", "unpack", ROOT, HOME]).await.map_err(of_engine)?;
        let arrived = self.unpack(stream, pieces).await?;
        self.deps.crash.point("import.unpacked");
        let hidden = [(LABEL_HELPER.to_owned(), String::new())].into();
        let config = CommitConfig { labels: hidden, env: arrived.manifest.image_env(), pause: false };
        let image = store::image_name(self.snapshot.id);
        host.engine.commit(helper.container(), &image, &config).await.map_err(of_engine)?;
        self.deps.crash.point("import.committed");
        helper.close().await.map_err(of_engine)?;
        self.finish(&image, &arrived).await
    }

    /// Feeds the helper and hears what it says, until it has said how it ends.
    async fn unpack(&self, stream: Box<dyn ByteStream>, mut pieces: mpsc::Receiver<Piece>) -> Result<Arrived> {
        let (said, mut archive) = tokio::io::split(stream);
        let feeding = async {
            if feed(&mut archive, &mut pieces).await? {
                // What it is worth, the helper says.
                std::future::pending::<()>().await;
            }
            let message = "The archive broke off. Send it again; nothing of it is kept.";
            Err::<(), _>(FeedError::Cut(Error::new(ErrorCode::InvalidRequest, message)))
        };
        let hearing = self.hear(said);
        tokio::pin!(hearing);
        tokio::select! {
            arrived = &mut hearing => arrived,
            broken = feeding => match broken {
                Err(FeedError::Cut(error)) => Err(error),
                // A helper that has ended reads no more: it has said why.
                Ok(()) | Err(FeedError::Closed) => hearing.await,
            },
        }
    }

    async fn hear(&self, said: impl AsyncRead + Unpin) -> Result<Arrived> {
        let mut said = BufReader::new(said);
        let first = line(&mut said).await?;
        // Before it has a manifest to tell, it tells why it has none.
        if let Ok(Said::Refused(why)) = serde_json::from_str(&first) {
            return Err(why.into());
        }
        let empty = self.host.engine.image(EMPTY_IMAGE).await.map_err(of_engine)?;
        let arrived = Arrived::read(&first, empty.map(|image| image.architecture).unwrap_or_default().as_str())?;
        self.require_quota(arrived.bytes()).await?;
        match serde_json::from_str(&line(&mut said).await?) {
            Ok(Said::Done(made)) if made == [arrived.root, arrived.home] => Ok(arrived),
            Ok(Said::Done(_)) => Err(Error::internal("the helper made another amount than the manifest tells of")),
            Ok(Said::Refused(why)) => Err(why.into()),
            Err(error) => Err(Error::internal(error)),
        }
    }

    async fn require_quota(&self, wanted: u64) -> Result<()> {
        let max = self.deps.snapshot_bytes_max;
        let tx = self.deps.db.begin().await?;
        let (_, used) = store::usage(&tx, self.snapshot.owner).await?;
        let used = u64::try_from(used).unwrap_or(0);
        if used.saturating_add(wanted) > max { Err(over_quota(used, wanted, max)) } else { Ok(()) }
    }

    async fn finish(&self, image: &str, arrived: &Arrived) -> Result<()> {
        let size = self.host.engine.image(image).await.map_err(of_engine)?.map_or(0, |image| image.size_bytes);
        let (size, home) = (arrived.root.at_least(size), arrived.home.at_least(arrived.home.bytes));
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let taken = Taken {
            image_ref: Some(image.to_owned()),
            image_bytes: bytes(size),
            home_bytes: bytes(home),
            pause_ms: arrived.manifest.pause_ms.map(i64::from),
            reason: None,
        };
        let name = self.name.clone().unwrap_or_else(|| arrived.manifest.name.clone());
        let imported = Imported {
            workspace_name: arrived.manifest.workspace_name(),
            plan_json: serde_json::to_string(&arrived.manifest.plan()).map_err(Error::internal)?,
            name,
        };
        let owner = self.snapshot.owner;
        let tx = self.deps.db.begin().await?;
        let (_, used) = store::usage(&tx, owner).await?;
        let (used, wanted) = (u64::try_from(used).unwrap_or(0), size.saturating_add(home));
        if used.saturating_add(wanted) > self.deps.snapshot_bytes_max {
            return Err(over_quota(used, wanted, self.deps.snapshot_bytes_max));
        }
        store::imported(&tx, self.snapshot.id, &imported).await?;
        if !store::ready(&tx, self.snapshot.id, &taken, now_ms()).await? {
            return Err(Error::not_found("snapshot"));
        }
        let event = NewEvent::of_user(owner, "snapshot.imported");
        let data = json!({ "snapshot": self.snapshot.id, "name": imported.name });
        let logged = events::append(&tx, &event.data(data)).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(owner, logged);
        self.deps.crash.point("import.ready");
        Ok(())
    }

    /// Nothing of it stays; what cannot be removed now, the rounds of `upkeep` remove.
    async fn take_back(&self) {
        let host = &self.host;
        if let Err(error) = Helper::remove_of(host, &self.job()).await {
            tracing::warn!(%error, "a helper stays behind until the next start");
        }
        if let Err(error) = store::condemn(self.deps.db.write(), self.snapshot.id).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an import is taken back at the next start");
        }
        // One that was deleted meanwhile may be buried already, before its image was made.
        let _ = host.engine.remove_image(&store::image_name(self.snapshot.id)).await;
        let _ = host.engine.remove_volume(&store::volume_name(self.snapshot.id)).await;
        self.host.upkeep.notify_one();
    }
}

/// The helper's last word.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    Done([super::manifest::Told; 2]),
    Refused(Why),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    Invalid(String),
    TooLarge(String),
}

impl From<Why> for Error {
    fn from(why: Why) -> Self {
        match why {
            Why::Invalid(what) => refused(what),
            Why::TooLarge(what) => too_large(what),
        }
    }
}

enum FeedError {
    /// The archive did not come in full.
    Cut(Error),
    /// The helper takes no more.
    Closed,
}

/// `true` once all of it is on its way.
async fn feed(to: &mut (impl AsyncWrite + Unpin), pieces: &mut mpsc::Receiver<Piece>) -> Result<bool, FeedError> {
    while let Some(piece) = pieces.recv().await {
        let sent = match piece {
            Piece::Bytes(bytes) => to.write_all(&bytes).await,
            Piece::End => return to.shutdown().await.map(|()| true).map_err(|_| FeedError::Closed),
        };
        sent.map_err(|_| FeedError::Closed)?;
    }
    Ok(false)
}

async fn line(said: &mut (impl AsyncBufRead + Unpin)) -> Result<String> {
    let mut line = String::new();
    said.take(LINE_BYTES_MAX).read_line(&mut line).await.map_err(of_stream)?;
    Ok(line)
}
