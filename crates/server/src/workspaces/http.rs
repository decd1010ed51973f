//! Routes of workspaces.

use super::lifecycle::Request;
use super::{Home, Outcome};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query, RequestId};
use crate::http::sse;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::WorkspaceId;
use rexec_api::progress::ProgressView;
use rexec_api::workspaces::{MoveWorkspace, NewWorkspace, PatchWorkspace, WAIT_MS_DEFAULT, WAIT_MS_MAX, WorkspaceView};
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, patch, delete))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(restart))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(progress))
        .routes(routes!(move_workspace))
}

/// Create a workspace.
#[utoipa::path(
    post, path = "/api/workspaces", tag = "workspaces",
    request_body = NewWorkspace,
    responses(
        (status = 201, description = "It is running.", body = WorkspaceView),
        (status = 202, description = "Not yet running after `wait_ms`; `status` and `status_reason` say what it waits for.", body = WorkspaceView),
        (status = "4XX", description = "Refused; nothing was made.", body = ErrorBody),
        (status = "5XX", description = "Refused; nothing was made.", body = ErrorBody),
    )
)]
async fn create(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewWorkspace>,
) -> Result<(StatusCode, Json<WorkspaceView>)> {
    let Outcome { view, done } = app.workspaces.create(&actor, new).await?;
    Ok((if done { StatusCode::CREATED } else { StatusCode::ACCEPTED }, Json(view)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The `next` of the page before.
    cursor: Option<WorkspaceId>,
}

/// List your workspaces, newest first.
#[utoipa::path(
    get, path = "/api/workspaces", tag = "workspaces",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them.", body = Page<WorkspaceView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<WorkspaceView>>> {
    Ok(Json(app.workspaces.list(&actor, query.cursor).await?))
}

/// One workspace.
#[utoipa::path(
    get, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 200, description = "The workspace.", body = WorkspaceView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn get(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<WorkspaceView>> {
    Ok(Json(app.workspaces.get(&actor, id).await?))
}

/// Follow how far a workspace is on its way to being usable, as server-sent events.
///
/// Each event, named `progress`, holds all that is known then; the first comes at once. Not every step is
/// told: news that follow each other closely are told as one.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/progress", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 200, description = "Events, until the workspace or your session go.", content(
            (ProgressView = "text/event-stream")
        )),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn progress(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    request_id: RequestId,
    Path(id): Path<WorkspaceId>,
) -> Result<Response> {
    let turn = app.streams.open(&actor)?;
    let views = app.workspaces.progress(&actor, id).await?;
    let events = views.map(|view| sse::Event::new("progress", &view));
    Ok(sse::answer(&app, actor, request_id.0, turn, events))
}

/// Change a workspace.
#[utoipa::path(
    patch, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    request_body = PatchWorkspace,
    responses(
        (status = 200, description = "The workspace as it is now.", body = WorkspaceView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn patch(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(change): Json<PatchWorkspace>,
) -> Result<Json<WorkspaceView>> {
    Ok(Json(app.workspaces.change(&actor, id, change).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// How long to wait before answering 202, in milliseconds: 25000 unless told, 120000 at most.
    wait_ms: Option<u64>,
}

impl WaitQuery {
    fn duration(&self) -> Result<Duration> {
        match self.wait_ms.unwrap_or(WAIT_MS_DEFAULT) {
            ms if ms <= WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
            _ => Err(Error::field("wait_ms", format!("`wait_ms` must be at most {WAIT_MS_MAX}."))),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Remove its home at once and for good.
    #[serde(default)]
    purge: bool,
}

/// Delete a workspace. Its home is kept for a while (`GET /api/volumes`), unless `purge` says otherwise.
#[utoipa::path(
    delete, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path), WaitQuery, DeleteQuery),
    responses(
        (status = 204, description = "It is gone."),
        (status = 202, description = "It is no longer yours to see; its remains go as soon as the engine allows."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn delete(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(wait): Query<WaitQuery>,
    Query(DeleteQuery { purge }): Query<DeleteQuery>,
) -> Result<StatusCode> {
    let home = if purge { Home::Purge } else { Home::Keep };
    let gone = app.workspaces.delete(&actor, id, home, wait.duration()?).await?;
    Ok(if gone { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}

/// Move a stopped workspace to another server, with its home and its root file system.
///
/// What comes there is compared with what left, by its hash. Until it has run at its new place, what it was made of is kept
/// where it was. To start or delete it meanwhile gives the move up.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/move", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    request_body = MoveWorkspace,
    responses(
        (status = 200, description = "It lies there.", body = WorkspaceView),
        (status = 202, description = "Still on its way after `wait_ms`; `moving` says how far, and why if it fails.", body = WorkspaceView),
        (status = "4XX", description = "Refused: `not_stopped`, `already_there`, `no_host`, `not_for_machines` and others.", body = ErrorBody),
        (status = "5XX", description = "It lies where it lay: `host_full`, `move_unverified`, `engine_unavailable` and others.", body = ErrorBody),
    )
)]
async fn move_workspace(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(to): Json<MoveWorkspace>,
) -> Result<(StatusCode, Json<WorkspaceView>)> {
    let Outcome { view, done } = app.workspaces.relocate(&actor, id, to).await?;
    Ok((if done { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(view)))
}

/// One route for each request to the lifecycle: they differ in name and meaning only.
macro_rules! lifecycle_route {
    ($(#[$doc:meta])* $name:ident, $path:literal, $request:expr) => {
        $(#[$doc])*
        #[utoipa::path(
            post, path = $path, tag = "workspaces",
            params(("id" = WorkspaceId, Path), WaitQuery),
            responses(
                (status = 200, description = "Done.", body = WorkspaceView),
                (status = 202, description = "Not yet done after `wait_ms`; it goes on.", body = WorkspaceView),
                (status = "4XX", description = "Refused.", body = ErrorBody),
                (status = "5XX", description = "Could not be done; `status` says where the workspace stands.", body = ErrorBody),
            )
        )]
        async fn $name(
            State(app): State<AppState>,
            Authenticated(actor): Authenticated,
            Path(id): Path<WorkspaceId>,
            Query(query): Query<WaitQuery>,
        ) -> Result<(StatusCode, Json<WorkspaceView>)> {
            let Outcome { view, done } = app.workspaces.request(&actor, id, $request, query.duration()?).await?;
            Ok((if done { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(view)))
        }
    };
}

lifecycle_route!(
    /// Start a stopped workspace.
    start, "/api/workspaces/{id}/start", Request::Start
);
lifecycle_route!(
    /// Stop a workspace: its processes end, its files stay.
    stop, "/api/workspaces/{id}/stop", Request::Stop
);
lifecycle_route!(
    /// Stop a workspace and start it again.
    restart, "/api/workspaces/{id}/restart", Request::Restart
);
lifecycle_route!(
    /// Freeze a workspace with all its processes.
    pause, "/api/workspaces/{id}/pause", Request::Pause
);
lifecycle_route!(
    /// Let a frozen workspace go on.
    resume, "/api/workspaces/{id}/resume", Request::Resume
);
