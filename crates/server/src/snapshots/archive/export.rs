//! A snapshot on its way out.

use super::manifest::{About, Manifest};
use super::{HOME, PIECE_BYTES, PIECES_MAX, ROOT, home_mount, of_engine, of_stream, stopping, too_many};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::hosts::Host;
use crate::hosts::helper::{Helper, HelperSpec};
use crate::snapshots::Snapshots;
use crate::snapshots::store::Snapshot;
use crate::time::rfc3339;
use bytes::{Bytes, BytesMut};
use rexec_api::error::ErrorCode;
use rexec_api::ids::SnapshotId;
use rexec_api::snapshots::SnapshotState;
use rexec_engine::ByteStream;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

/// How long whoever reads it may pause.
const READER_PATIENCE: Duration = Duration::from_secs(300);
/// How long the helper may take to the next piece.
const HELPER_PATIENCE: Duration = Duration::from_secs(120);

/// An archive that flows.
pub struct Export {
    pub name: String,
    pieces: mpsc::Receiver<Option<Bytes>>,
}

impl Export {
    /// The next piece; `None` at the end of one that is whole. An error is all that tells of one that is not.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.pieces.recv().await.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Snapshots {
    /// Begins to pack a snapshot; what it needs cannot be removed from the engine meanwhile.
    pub async fn export(&self, actor: &Actor, id: SnapshotId) -> Result<Export> {
        let row = self.owned(actor, id).await?;
        require_ready(&row)?;
        let turn = self.transfers.take(actor.user).map_err(too_many)?;
        let host = self.deps.fleet.of(row.host);
        host.ready_or_tried().await.map_err(|why| Error::new(ErrorCode::EngineUnavailable, why))?;
        let name = row.name.clone();
        let (begun, has_begun) = oneshot::channel();
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let tasks = self.tasks.clone();
        self.tasks.spawn("export", async move {
            let packing = Packing { host, row, sender };
            let is_whole = tokio::select! {
                is_whole = packing.run(begun) => is_whole,
                () = tasks.stopping() => false,
            };
            if let Err(error) = Helper::remove_of(&packing.host, &packing.job()).await {
                tracing::warn!(%error, "a helper stays behind until the next start");
            }
            drop(turn);
            // Last of all: who has read the end may begin the next one.
            if is_whole {
                packing.send(None).await.ok();
            }
        });
        has_begun.await.map_err(|_| stopping())??;
        Ok(Export { name, pieces })
    }
}

fn require_ready(row: &Snapshot) -> Result<()> {
    match row.state {
        SnapshotState::Ready => Ok(()),
        SnapshotState::Taking => {
            Err(Error::new(ErrorCode::WorkspaceBusy, "It is being taken. Wait until it is ready.")
                .details(serde_json::json!({ "doing": "snapshot" })))
        }
        SnapshotState::Failed => Err(Error::field("id", "It has failed: there is nothing of it to export.")),
    }
}

struct Packing {
    host: Arc<Host>,
    row: Snapshot,
    /// `None` is the end.
    sender: mpsc::Sender<Option<Bytes>>,
}

impl Packing {
    fn job(&self) -> String {
        format!("export-{}", self.row.id.0.simple())
    }

    /// Whether all of it was sent; the end itself is not.
    async fn run(&self, begun: oneshot::Sender<Result<()>>) -> bool {
        let (helper, mut stream, first) = match self.begin().await {
            Ok(flowing) => flowing,
            Err(error) => {
                begun.send(Err(error)).ok();
                return false;
            }
        };
        let mut is_whole = begun.send(Ok(())).is_ok();
        if is_whole && let Err(error) = self.flow(first, &mut stream).await {
            tracing::info!(snapshot.id = %self.row.id, error = &error as &dyn std::error::Error, "an export broke off");
            is_whole = false;
        }
        drop(stream);
        if let Err(error) = helper.close().await {
            tracing::warn!(%error, "a helper cannot be removed yet");
        }
        is_whole
    }

    /// Up to the first bytes: whatever fails before them is told as an error.
    async fn begin(&self) -> Result<(Helper, Box<dyn ByteStream>, Bytes)> {
        let host = &self.host;
        let image = self.row.image_ref.clone().unwrap_or_else(|| self.row.base_image.clone());
        let info = host.engine.image(&image).await.map_err(of_engine)?;
        let volume = self.row.volume.clone().unwrap_or_default();
        let (Some(info), true) = (info, host.engine.has_volume(&volume).await.map_err(of_engine)?) else {
            let message = "The host has a part of the snapshot no more: somebody removed it there.";
            return Err(Error::new(ErrorCode::EngineError, message));
        };
        let plan = serde_json::from_str(&self.row.plan_json).map_err(Error::internal)?;
        let about = About {
            name: self.row.name.clone(),
            workspace_name: self.row.workspace_name.clone(),
            created_at: rfc3339(self.row.created_ms),
            image: self.row.base_image.clone(),
            pause_ms: self.row.pause_ms.and_then(|ms| u32::try_from(ms).ok()),
            architecture: info.architecture,
            image_env: info.env,
        };
        let manifest = serde_json::to_vec(&Manifest::new(about, plan)).map_err(Error::internal)?;
        let spec = HelperSpec {
            job: self.job(),
            image: Some(image),
            mounts: vec![home_mount(&volume, true)],
            ..HelperSpec::default()
        };
        let helper = Helper::open(host, spec).await.map_err(|error| match error {
            rexec_engine::EngineError::Conflict(_) => {
                Error::new(ErrorCode::WorkspaceBusy, "It is being exported already. Wait for that first.")
                    .details(serde_json::json!({ "doing": "export" }))
            }
            error => of_engine(error),
        })?;
        let started = async {
            let mut stream = helper.run(&["volume", "pack", ROOT, &helper.at(HOME)]).await.map_err(of_engine)?;
            stream.write_all(&manifest).await.map_err(of_stream)?;
            stream.shutdown().await.map_err(of_stream)?;
            let first = piece(&mut stream).await.map_err(of_stream)?;
            Ok((stream, first))
        };
        match started.await {
            Ok((stream, first)) => Ok((helper, stream, first)),
            Err(error) => {
                helper.close().await.map_err(of_engine)?;
                Err(error)
            }
        }
    }

    async fn flow(&self, first: Bytes, stream: &mut Box<dyn ByteStream>) -> io::Result<()> {
        let mut next = first;
        while !next.is_empty() {
            self.send(Some(next)).await?;
            next = tokio::select! {
                piece = piece(stream) => piece?,
                // Whoever asked has gone; the helper is closed in good order.
                () = self.sender.closed() => return Err(io::ErrorKind::BrokenPipe.into()),
            };
        }
        Ok(())
    }

    async fn send(&self, piece: Option<Bytes>) -> io::Result<()> {
        match tokio::time::timeout(READER_PATIENCE, self.sender.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// The next bytes; none at the end of a program that ended well.
pub(super) async fn piece(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
    match tokio::time::timeout(HELPER_PATIENCE, stream.read_buf(&mut bytes)).await {
        Ok(read) => read?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    Ok(bytes.freeze())
}
