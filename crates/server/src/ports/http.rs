//! Routes of ports.

use super::tunnel::{__path_tunnel_port, tunnel_port};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path};
use crate::http::origin::Scene;
use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use rexec_api::error::ErrorBody;
use rexec_api::ids::WorkspaceId;
use rexec_api::ports::{OpenPort, OpenedPort, PortList, PortView, SetPort};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_ports))
        .routes(routes!(set_port, reset_port))
        .routes(routes!(open_port))
        .routes(routes!(tunnel_port))
}

/// What listens in a workspace, and how each port's preview is set up.
///
/// `workspace.ports` of `GET /api/events` tells the same as it changes.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/ports", tag = "ports",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 200, description = "The ports, by number.", body = PortList),
        (status = "4XX", description = "Refused.", body = ErrorBody),
        (status = "5XX", description = "The workspace cannot be asked at the moment.", body = ErrorBody),
    )
)]
async fn list_ports(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<PortList>> {
    Ok(Json(app.ports.list(&actor, id, scene.host.as_deref()).await?))
}

/// Say who may open a port's preview, until when, and what it is called.
#[utoipa::path(
    put, path = "/api/workspaces/{id}/ports/{port}", tag = "ports",
    params(("id" = WorkspaceId, Path), ("port" = u16, Path)),
    request_body = SetPort,
    responses(
        (status = 200, description = "The port as it is now.", body = PortView),
        (status = "4XX", description = "Refused; nothing has changed.", body = ErrorBody),
    )
)]
async fn set_port(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
    Path((id, port)): Path<(WorkspaceId, String)>,
    Json(set): Json<SetPort>,
) -> Result<Json<PortView>> {
    Ok(Json(app.ports.set(&actor, id, number(&port)?, set, scene.host.as_deref()).await?))
}

/// An address at which your browser is let in to a port's preview.
///
/// It is good once and for a minute. Where there is no address for previews, the error says why.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/ports/{port}/open", tag = "ports",
    params(("id" = WorkspaceId, Path), ("port" = u16, Path)),
    request_body = OpenPort,
    responses(
        (status = 200, description = "Where to go.", body = OpenedPort),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn open_port(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
    Path((id, port)): Path<(WorkspaceId, String)>,
    Json(open): Json<OpenPort>,
) -> Result<Json<OpenedPort>> {
    Ok(Json(app.ports.open(&actor, id, number(&port)?, open, scene.host.as_deref()).await?))
}

/// Make a port's preview private again and forget its label.
#[utoipa::path(
    delete, path = "/api/workspaces/{id}/ports/{port}", tag = "ports",
    params(("id" = WorkspaceId, Path), ("port" = u16, Path)),
    responses(
        (status = 204, description = "It is as it was at first."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn reset_port(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path((id, port)): Path<(WorkspaceId, String)>,
) -> Result<StatusCode> {
    app.ports.reset(&actor, id, number(&port)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn number(text: &str) -> Result<u16> {
    let port = text.parse().ok().filter(|&port: &u16| port != 0);
    port.ok_or_else(|| Error::field("port", "The port must be a number from 1 to 65535."))
}
