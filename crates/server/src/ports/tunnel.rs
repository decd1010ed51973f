//! A port of a workspace as a byte stream over a WebSocket, for programs: `rexec forward`.
//!
//! Unlike a preview it is no origin and takes no visitors: who asks is the actor of an API request, with the scope of ports.

use super::Ports;
use super::http::number;
use super::proxy::dial;
use crate::actor::Actor;
use crate::app::AppState;
use crate::config::Use;
use crate::error::Result;
use crate::http::extract::{Authenticated, Path};
use crate::http::tunnel::{self, End};
use crate::http::websocket::Asked;
use crate::workspaces::{Reach, Used, Waking};
use axum::extract::State;
use axum::response::Response;
use rexec_api::error::ErrorBody;
use rexec_api::frames::close;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_channel::GuestClient;

impl Ports {
    /// A connection to what listens on a port; the workspace wakes for it.
    async fn tunnel(&self, actor: &Actor, workspace: WorkspaceId, port: u16) -> Result<(Used, GuestClient)> {
        let waking = Waking::Yes(Use::Preview);
        let Reach { guest, waker, .. } = self.workspaces.reach_as(actor, Scope::Ports, workspace, waking).await?;
        let stream = dial(&guest, port).await?;
        Ok((Used::new(stream, waker, Use::Preview), guest))
    }

    /// Resolves when a tunnel has to end although neither end of it has.
    async fn tunnel_over(&self, actor: &Actor, guest: &GuestClient) -> End {
        tokio::select! {
            _ = self.auth.ended(actor) => (close::SIGN_IN, "the login session or token has ended"),
            () = guest.closed() => (close::TRY_AGAIN, "the link to the workspace broke"),
            () = self.tasks.stopping() => (close::TRY_AGAIN, "the server is restarting"),
        }
    }
}

/// Reach a port of a workspace as a byte stream, over a WebSocket of the subprotocol `rexec.tunnel.v1`.
///
/// Binary messages, of 64 KiB at most, are pieces of the stream; an empty one ends its direction. A refusal is an ordinary answer.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/ports/{port}/ws", tag = "ports",
    params(("id" = WorkspaceId, Path), ("port" = u16, Path)),
    responses(
        (status = 101, description = "Connected."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
        (status = "5XX", description = "Nothing listens there, or the workspace cannot be reached.", body = ErrorBody),
    )
)]
pub(super) async fn tunnel_port(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path((id, port)): Path<(WorkspaceId, String)>,
    upgrade: Asked,
) -> Result<Response> {
    let (port, upgrade) = (number(&port)?, tunnel::upgrade(upgrade)?);
    let turn = app.streams.open(&actor)?;
    let (stream, guest) = app.ports.tunnel(&actor, id, port).await?;
    let ports = app.ports.clone();
    Ok(upgrade.on_upgrade(async move |socket| {
        tunnel::carry(socket, stream, ports.tunnel_over(&actor, &guest)).await;
        drop(turn);
    }))
}
