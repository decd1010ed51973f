//! Routes of statistics.

use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query, RequestId};
use crate::http::sse;
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use rexec_api::error::ErrorBody;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::{StatsHistory, StatsSample};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(watch_stats)).routes(routes!(stats_history))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WatchQuery {
    /// `1`: the last 24 hours come first, as the event `history`.
    #[serde(default)]
    history: u8,
}

/// Follow what a workspace uses, as server-sent events.
///
/// An event `sample` comes every two seconds while it runs; while it is paused, the last one stands.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/stats", tag = "stats",
    params(("id" = WorkspaceId, Path), WatchQuery),
    responses(
        (status = 200, description = "Samples, until you, the server, your session or the workspace go.", content(
            (StatsSample = "text/event-stream")
        )),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn watch_stats(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    request_id: RequestId,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<WatchQuery>,
) -> Result<Response> {
    let turn = app.streams.open(&actor)?;
    // Watched first: what comes while the history is read comes after it.
    let samples = app.stats.watch(&actor, id).await?;
    let history = match query.history {
        0 => None,
        _ => Some(sse::Event::new("history", &app.stats.history(&actor, id, None).await?)),
    };
    let samples = samples.map(|sampled| sse::Event::new("sample", &sampled.view));
    Ok(sse::answer(&app, actor, request_id.0, turn, stream::iter(history).chain(samples)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Only what is not over at this time; RFC 3339.
    since: Option<String>,
}

/// What a workspace used in the last 24 hours.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/stats/history", tag = "stats",
    params(("id" = WorkspaceId, Path), HistoryQuery),
    responses(
        (status = 200, description = "Spans, finer the younger they are.", body = StatsHistory),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn stats_history(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<StatsHistory>> {
    let since = query.since.map(|text| text.parse::<jiff::Timestamp>()).transpose();
    let since = since.map_err(|_| Error::field("since", "`since` must be a time such as `2026-01-31T12:00:00Z`."))?;
    Ok(Json(app.stats.history(&actor, id, since.map(jiff::Timestamp::as_millisecond)).await?))
}
