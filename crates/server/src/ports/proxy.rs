//! One request through the guest to what listens in a workspace, and the answer back.
//!
//! Each request has a connection of its own through the guest's `dial`: no two visitors' requests share
//! one, so nothing that either says can be taken for a part of the other's. Bodies pass as they come,
//! both ways, with the back-pressure of every hop.
//!
//! A connection lives no longer than what its request was let in by ([`Ports::over`]). While something
//! passes the workspace is used; one that is merely open is not.

use super::Ports;
use super::address::Spot;
use super::meter::{Metered, Moved};
use super::visit::Admission;
use crate::error::{Error, Result};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{StatusCode, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{DialSpec, GuestError};
use rexec_channel::{ChannelError, GuestClient, Tunnel};
use std::time::Duration;

/// How long what is under way may go on once the server stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether anything passed.
const TRAFFIC_PERIOD: Duration = Duration::from_secs(5);

/// What keeps a connection alive.
#[derive(Clone)]
pub struct Watch {
    pub ports: Ports,
    pub admission: Admission,
    pub spot: Spot,
}

impl Watch {
    /// Tells that the workspace is used for as long as something passes. Never ends.
    pub(super) async fn tell(&self, moved: Moved) {
        loop {
            tokio::time::sleep(TRAFFIC_PERIOD).await;
            if moved.take()
                && let Err(error) = self.ports.workspaces.preview_used(self.spot.workspace).await
            {
                tracing::debug!(workspace.id = %self.spot.workspace, causes = error.causes(), "a use was not noted");
            }
        }
    }

    /// Resolves once the connection is to end.
    pub(super) async fn over(&self) {
        let stopping = async {
            self.ports.tasks.stopping().await;
            tokio::time::sleep(DRAIN_PATIENCE).await;
        };
        tokio::select! {
            () = self.ports.over(&self.admission, self.spot) => {}
            () = stopping => {}
        }
    }
}

/// Sends a request to the spot and gives its answer as soon as that begins.
pub async fn forward(guest: &GuestClient, mut request: Request, watch: Watch) -> Result<Response> {
    let port = watch.spot.port;
    let moved = Moved::default();
    let io = TokioIo::new(Metered { tunnel: dial(guest, port).await?, moved: moved.clone() });
    let (mut requests, connection) = http1::handshake::<_, Body>(io).await.map_err(|error| no_answer(port, error))?;
    let tasks = watch.ports.tasks.clone();
    let (alive, traffic) = (watch.clone(), moved.clone());
    tasks.spawn("preview", async move {
        tokio::select! {
            () = alive.tell(traffic) => {}
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a preview's connection ended badly");
            },
            () = alive.over() => {}
        }
    });
    let visitor = hyper::upgrade::on(&mut request);
    let asked = request.headers().contains_key(http::header::UPGRADE);
    request.extensions_mut().clear();
    let mut response = requests.send_request(request).await.map_err(|error| no_answer(port, error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !asked {
            return Err(Error::new(
                ErrorCode::PreviewFailed,
                format!("What listens on port {port} does not speak HTTP."),
            ));
        }
        let workspace = hyper::upgrade::on(&mut response);
        tasks.spawn("preview-tunnel", async move {
            tokio::select! {
                () = tunnel(visitor, workspace) => {}
                () = watch.tell(moved) => {}
                () = watch.over() => {}
            }
        });
    }
    // What the workspace speaks ends here; with the visitor we speak for ourselves.
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(Body::new))
}

/// A connection to what listens on the port.
pub(super) async fn dial(guest: &GuestClient, port: u16) -> Result<Tunnel> {
    let dialled = guest.dial(&DialSpec::Tcp { port }).await;
    let (sender, receiver) = dialled.map_err(|error| undialled(port, error))?;
    Ok(Tunnel::new(sender, receiver))
}

/// Carries bytes both ways until both sides have ended.
async fn tunnel(visitor: hyper::upgrade::OnUpgrade, workspace: hyper::upgrade::OnUpgrade) {
    // A side that does not switch after all has nothing to say.
    let Ok((visitor, workspace)) = tokio::try_join!(visitor, workspace) else { return };
    let (mut visitor, mut workspace) = (TokioIo::new(visitor), TokioIo::new(workspace));
    if let Err(error) = tokio::io::copy_bidirectional(&mut visitor, &mut workspace).await {
        tracing::debug!(%error, "a preview's tunnel ended badly");
    }
}

fn undialled(port: u16, error: ChannelError) -> Error {
    match error {
        ChannelError::Guest(GuestError { code: ErrorCode::NotFound | ErrorCode::PortClosed, .. }) => Error::new(
            ErrorCode::PortClosed,
            format!("Nothing listens on port {port} of the workspace. Start a server there."),
        )
        .retry_after(Duration::from_secs(2)),
        other => other.into(),
    }
}

fn no_answer(port: u16, error: hyper::Error) -> Error {
    let message = format!(
        "What listens on port {port} of the workspace ended the connection, or answered with something that is not HTTP."
    );
    Error::new(ErrorCode::PreviewFailed, message).source(error)
}
