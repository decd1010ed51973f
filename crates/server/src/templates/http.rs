//! The route of templates.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json};
use axum::extract::State;
use rexec_api::error::ErrorBody;
use rexec_api::templates::TemplateList;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_templates))
}

/// List the templates that workspaces can be made from.
#[utoipa::path(
    get, path = "/api/templates", tag = "templates",
    responses(
        (status = 200, description = "All of them, by id.", body = TemplateList),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_templates(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<TemplateList>> {
    Ok(Json(app.templates.list(&actor).await?))
}
