//! The routes of the gateway's own keys, and of SSH over a WebSocket.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json};
use crate::http::origin::Scene;
use crate::http::tunnel;
use crate::http::websocket::Asked;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ssh::SshHostKeyView;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_ssh_host_keys))
        .routes(routes!(rotate_ssh_host_key))
        .routes(routes!(ssh_tunnel))
}

/// The keys by which the SSH gateway proves itself.
#[utoipa::path(get, path = "/api/ssh/host-keys", tag = "ssh", responses(
    (status = 200, description = "All of them; none before a gateway has run here.", body = Page<SshHostKeyView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_ssh_host_keys(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<SshHostKeyView>>> {
    Ok(Json(app.ssh.host_keys(&actor).await?))
}

/// Put a new key in the place of the one by which the SSH gateway proves itself.
///
/// The old one is gone for good. Whoever connects from now on sees the new one, and is warned by their client until they have
/// taken it over; connections that there are go on. Other servers on the same database show it from their next start on.
#[utoipa::path(post, path = "/api/admin/ssh/host-keys/rotate", tag = "admin", responses(
    (status = 200, description = "The new keys.", body = Page<SshHostKeyView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn rotate_ssh_host_key(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<SshHostKeyView>>> {
    Ok(Json(app.ssh.rotate_host_key(&actor).await?))
}

/// SSH where only HTTP gets through: the gateway's port as a byte stream, over a WebSocket of the subprotocol `rexec.tunnel.v1`.
///
/// Binary messages, of 64 KiB at most, are pieces of the stream; an empty one ends its direction. Who connects proves themself by
/// SSH alone, as at the port. `rexec proxy` is a `ProxyCommand` for it.
#[utoipa::path(get, path = "/api/ssh/ws", tag = "ssh", security(()), responses(
    (status = 101, description = "Connected."),
    (status = "4XX", description = "Refused; `not_found` where there is no gateway.", body = ErrorBody)))]
async fn ssh_tunnel(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    upgrade: Asked,
) -> Result<Response> {
    let upgrade = tunnel::upgrade(upgrade)?;
    let gateway = app.ssh.gateway()?;
    let ssh = app.ssh.clone();
    Ok(upgrade.on_upgrade(async move |socket| ssh.carry(gateway, socket, scene.address).await))
}
