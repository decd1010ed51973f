//! Routes of what a workspace may reach.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path, Query};
use axum::extract::State;
use rexec_api::Page;
use rexec_api::egress::{EgressEntry, EgressSettings, EgressView, LendRule};
use rexec_api::error::ErrorBody;
use rexec_api::ids::WorkspaceId;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get, put)).routes(routes!(lend)).routes(routes!(log))
}

/// What a workspace may reach outside.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/egress", tag = "egress", operation_id = "get_egress",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 200, description = "Its settings, the server's, and what it did.", body = EgressView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn get(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<EgressView>> {
    Ok(Json(app.egress.get(&actor, id).await?))
}

/// Change what a workspace may reach outside: all of it.
///
/// On the closed network that holds at once, and what it forbids ends; `state` says so. From the open network to the
/// closed one and back a workspace goes when it is next started.
#[utoipa::path(
    put, path = "/api/workspaces/{id}/egress", tag = "egress", operation_id = "set_egress",
    params(("id" = WorkspaceId, Path)),
    request_body = EgressSettings,
    responses(
        (status = 200, description = "As it is now.", body = EgressView),
        (status = "4XX", description = "Refused, and as before: `invalid_request` with the rule, `preset_not_allowed`, `workspace_busy`.", body = ErrorBody),
    )
)]
async fn put(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(settings): Json<EgressSettings>,
) -> Result<Json<EgressView>> {
    Ok(Json(app.egress.set(&actor, id, settings).await?))
}

/// Let a workspace reach something for a while.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/egress/allow", tag = "egress",
    params(("id" = WorkspaceId, Path)),
    request_body = LendRule,
    responses(
        (status = 200, description = "As it is now.", body = EgressView),
        (status = "4XX", description = "Refused, and as before: `invalid_request`, `workspace_busy`.", body = ErrorBody),
    )
)]
async fn lend(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(lend): Json<LendRule>,
) -> Result<Json<EgressView>> {
    Ok(Json(app.egress.lend(&actor, id, &lend).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// What was refused alone.
    #[serde(default)]
    denied: bool,
}

/// What a workspace asked its gateway for, by minute and kind, newest first.
///
/// Names that were looked up count as `dns`. It is kept for seven days, 1,000 entries at most of what was allowed and as many of what was refused; from the open network
/// nothing is told.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/egress/log", tag = "egress", operation_id = "egress_log",
    params(("id" = WorkspaceId, Path), LogQuery),
    responses(
        (status = 200, description = "A page of it.", body = Page<EgressEntry>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn log(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<LogQuery>,
) -> Result<Json<Page<EgressEntry>>> {
    Ok(Json(app.egress.log(&actor, id, query.cursor.as_deref(), query.denied).await?))
}
