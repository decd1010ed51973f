//! Routes of set-ups.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path};
use axum::extract::State;
use http::StatusCode;
use rexec_api::error::ErrorBody;
use rexec_api::ids::WorkspaceId;
use rexec_api::setups::SetupView;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_setup)).routes(routes!(retry_setup))
}

/// How far the set-up of a workspace is.
///
/// A step that runs has a terminal to attach to; one that has ended has the end of its output here.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/setup", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 200, description = "Its steps in their order.", body = SetupView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn get_setup(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<SetupView>> {
    Ok(Json(app.setups.get(&actor, id).await?))
}

/// Run the step of a set-up that has failed once more, and then those after it.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/setup/retry", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 202, description = "It runs as soon as the workspace does.", body = SetupView),
        (status = "4XX", description = "Refused: nothing has failed, or there is no such workspace.", body = ErrorBody),
    )
)]
async fn retry_setup(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<(StatusCode, Json<SetupView>)> {
    Ok((StatusCode::ACCEPTED, Json(app.setups.retry(&actor, id).await?)))
}
