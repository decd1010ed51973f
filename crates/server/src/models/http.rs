//! Routes of models.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json};
use axum::extract::State;
use rexec_api::error::ErrorBody;
use rexec_api::models::ModelsView;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_models))
}

/// Which models workspaces may ask for, and what yours have used.
///
/// A workspace whose `egress.models` is set asks at `http://llm.rexec.internal`, in the API of OpenAI or of Anthropic, without
/// a key.
#[utoipa::path(
    get, path = "/api/models", tag = "egress",
    responses(
        (status = 200, description = "What is offered, and what you have used of it in 30 days.", body = ModelsView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn get_models(State(app): State<AppState>, Authenticated(actor): Authenticated) -> Result<Json<ModelsView>> {
    Ok(Json(app.models.get(&actor).await?))
}
