//! Routes of servers, for administrators, and of how the fleet is.

use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::workspaces::moving::clearing::Sources;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::HostId;
use rexec_api::servers::{
    ComputeHealth, NewServer, PatchServer, PullImage, PutRegion, RegionView, ServerImages, ServerLeft, ServerLost,
    ServerState, ServerView, WantedImage,
};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_servers, add_server))
        .routes(routes!(list_images, pull_image))
        .routes(routes!(get_server, change_server, delete_server))
        .routes(routes!(test_server))
        .routes(routes!(drain_server))
        .routes(routes!(activate_server))
        .routes(routes!(list_regions))
        .routes(routes!(limit_region))
        .routes(routes!(compute_health))
}

/// List the servers that workspaces run on.
#[utoipa::path(get, path = "/api/admin/servers", tag = "admin", responses(
    (status = 200, description = "All of them, by name.", body = Page<ServerView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_servers(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<ServerView>>> {
    Ok(Json(app.servers.list(&actor).await?))
}

/// Add a server: it is reached, told from the others and made ready before the answer, which says what it is.
///
/// Where that fails, `server_unfit` says in `details.fault` what it was: `name_not_resolved`, `refused`, `timed_out`, `not_tls`,
/// `certificate_not_trusted`, `certificate_expired`, `certificate_wrong_name`, `client_certificate_refused`, `ssh_key_refused`,
/// `ssh_host_key_changed`, `no_socket`, `api_too_old`, `runtime_missing`, `architecture`, `not_ready`, `not_closed` and others; nothing is recorded then.
#[utoipa::path(post, path = "/api/admin/servers", tag = "admin", request_body = NewServer, responses(
    (status = 201, description = "Workspaces are made there from now on.", body = ServerView),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn add_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewServer>,
) -> Result<(StatusCode, Json<ServerView>)> {
    Ok((StatusCode::CREATED, Json(app.servers.add(&actor, new).await?)))
}

/// One server.
#[utoipa::path(get, path = "/api/admin/servers/{id}", tag = "admin", params(("id" = HostId, Path)), responses(
    (status = 200, body = ServerView),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn get_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
) -> Result<Json<ServerView>> {
    Ok(Json(app.servers.get(&actor, id).await?))
}

/// Change a server. What workspaces have of it stays theirs, also beyond a limit that is lower now.
#[utoipa::path(patch, path = "/api/admin/servers/{id}", tag = "admin", params(("id" = HostId, Path)), request_body = PatchServer,
    responses(
        (status = 200, description = "In force.", body = ServerView),
        (status = "4XX", description = "Refused; nothing has changed.", body = ErrorBody)))]
async fn change_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
    Json(change): Json<PatchServer>,
) -> Result<Json<ServerView>> {
    Ok(Json(app.servers.change(&actor, id, change).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Take no more workspaces there, and move those that are stopped to other servers of its region.
    #[serde(default, rename = "move")]
    moves: bool,
    /// Do not keep what moved workspaces have left there until they have run at their new places.
    #[serde(default)]
    drop_sources: bool,
    /// It does not come back: take it out with all that lies there. Refused while it answers.
    #[serde(default)]
    lost: bool,
}

/// Delete a server on which nothing lies any more: no workspace, kept home or snapshot.
///
/// With `move`, what is stopped there is moved first. What runs is named and not stopped; ask again once nothing is `moving`
/// or `going` any more.
///
/// With `lost`, workspaces, kept homes and snapshots there are deleted with it, and nothing of them can be had again; of those
/// that had moved there and not run since, the home at the old place is kept.
#[utoipa::path(delete, path = "/api/admin/servers/{id}", tag = "admin", params(("id" = HostId, Path), DeleteQuery), responses(
    (status = 204, description = "It is none of this installation's any more; nothing on it was touched."),
    (status = 200, description = "With `lost`: what was written off with it.", body = ServerLost),
    (status = 202, description = "With `move`: something lies there still, and this is what.", body = ServerLeft),
    (status = "4XX", description = "Refused; `server_in_use` counts what lies there.", body = ErrorBody)))]
async fn delete_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
    Query(asked): Query<DeleteQuery>,
) -> Result<Response> {
    if asked.lost {
        if asked.moves {
            return Err(Error::field("lost", "From a server that is lost nothing is moved. Ask for one of the two."));
        }
        let off = app.servers.write_off(&actor, id, &app.workspaces.deps()).await?;
        let lost = off.lost;
        app.workspaces.tell_lost(off);
        return Ok(Json(lost).into_response());
    }
    if asked.moves {
        app.servers.begin_clearing(&actor, id).await?;
        let sources = if asked.drop_sources { Sources::Drop } else { Sources::Keep };
        let left = app.workspaces.clear(&actor, id, sources).await?;
        if left != ServerLeft::default() {
            return Ok((StatusCode::ACCEPTED, Json(left)).into_response());
        }
    }
    app.servers.remove(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Ask a server anew whether it answers and is fit.
#[utoipa::path(post, path = "/api/admin/servers/{id}/test", tag = "admin", params(("id" = HostId, Path)), responses(
    (status = 200, description = "It is.", body = ServerView),
    (status = "4XX", description = "It is not: `server_unfit`, with `details.fault` as when one is added.", body = ErrorBody)))]
async fn test_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
) -> Result<Json<ServerView>> {
    Ok(Json(app.servers.test(&actor, id).await?))
}

/// Have no more workspaces made on a server. Those that are there stay, and can be stopped and started.
#[utoipa::path(post, path = "/api/admin/servers/{id}/drain", tag = "admin", params(("id" = HostId, Path)), responses(
    (status = 200, body = ServerView),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn drain_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
) -> Result<Json<ServerView>> {
    Ok(Json(app.servers.set_state(&actor, id, ServerState::Draining).await?))
}

/// Have workspaces made on a server again.
#[utoipa::path(post, path = "/api/admin/servers/{id}/activate", tag = "admin", params(("id" = HostId, Path)), responses(
    (status = 200, body = ServerView),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn activate_server(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
) -> Result<Json<ServerView>> {
    Ok(Json(app.servers.set_state(&actor, id, ServerState::Active).await?))
}

/// List the images of a server: those that its engine has, and those that it is to have before anyone asks.
#[utoipa::path(get, path = "/api/admin/servers/{id}/images", tag = "admin", params(("id" = HostId, Path)), responses(
    (status = 200, body = ServerImages),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_images(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
) -> Result<Json<ServerImages>> {
    Ok(Json(app.servers.images(&actor, id).await?))
}

/// Have a server fetch an image, or look whether there is a newer one. Its progress stands in the list of images; a
/// fetch that fails is tried again.
#[utoipa::path(post, path = "/api/admin/servers/{id}/images", tag = "admin", params(("id" = HostId, Path)),
    request_body = PullImage, responses(
        (status = 202, description = "It is, or will be in its turn.", body = WantedImage),
        (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn pull_image(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<HostId>,
    Json(asked): Json<PullImage>,
) -> Result<(StatusCode, Json<WantedImage>)> {
    Ok((StatusCode::ACCEPTED, Json(app.servers.pull(&actor, id, &asked.image).await?)))
}

/// How the servers are that workspaces run on: in numbers, and for administrators one by one.
#[utoipa::path(get, path = "/api/compute/health", tag = "workspaces", responses(
    (status = 200, body = ComputeHealth),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn compute_health(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<ComputeHealth>> {
    Ok(Json(app.servers.health(&actor).await?))
}

/// List the regions that servers are in: how many each has, how far they are, and what is there.
#[utoipa::path(get, path = "/api/admin/regions", tag = "admin", responses(
    (status = 200, description = "All of them, by name.", body = Page<RegionView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_regions(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<RegionView>>> {
    Ok(Json(app.servers.regions(&actor).await?))
}

/// Limit how many workspaces a region may have. Those that are there stay; one more is refused with `host_full`, or made
/// in another region where the request names none.
#[utoipa::path(put, path = "/api/admin/regions/{name}", tag = "admin", params(("name" = String, Path)),
    request_body = PutRegion, responses(
    (status = 200, description = "From now on.", body = RegionView),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn limit_region(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(name): Path<String>,
    Json(limit): Json<PutRegion>,
) -> Result<Json<RegionView>> {
    Ok(Json(app.servers.limit_region(&actor, &name, limit).await?))
}
