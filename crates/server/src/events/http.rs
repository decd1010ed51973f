//! The routes of events.

use super::Heard;
use super::bus::News;
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query, RequestId};
use crate::http::sse;
use crate::page;
use crate::time::rfc3339;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::HeaderMap;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::events::EventView;
use rexec_api::ids::{EventId, WorkspaceId};
use rexec_api::tokens::Scope;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const LAST_EVENT_ID: &str = "last-event-id";

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow)).routes(routes!(list_of_workspace))
}

/// Where a page begins.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The `next` of the page before.
    #[serde(default)]
    cursor: Option<EventId>,
}

/// What has happened to a workspace, the newest first.
///
/// `/api/events` tells what happens from now on, and some news besides that is not kept.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/events", tag = "events",
    params(("id" = WorkspaceId, Path), ListQuery),
    responses(
        (status = 200, description = "A page of its log.", body = Page<EventView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_of_workspace(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<EventView>>> {
    app.workspaces.owned(&actor, Scope::WorkspacesRead, id).await?;
    let rows = app.events.of_workspace(&actor, id, query.cursor).await?;
    let id_of = |news: &News| news.id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Json(page::of(rows, id_of, view)))
}

/// Follow what happens to your workspaces, as server-sent events.
///
/// An event's name is its `kind`. `resync` comes first, and again whenever news was lost: read then
/// what you show; everything after it is news. With `Last-Event-ID`, what the log has since then
/// comes before it, 1,000 events at most.
#[utoipa::path(
    get, path = "/api/events", tag = "events",
    params(("last-event-id" = Option<EventId>, Header, description = "The last `id` that you have seen.")),
    responses(
        (status = 200, description = "Events, until you or the server or your session go.", content(
            (EventView = "text/event-stream")
        )),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn follow(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    request_id: RequestId,
    headers: HeaderMap,
) -> Result<Response> {
    let after = last_event_id(&headers)?;
    let turn = app.streams.open(&actor)?;
    let heard = app.events.follow(&actor, after).await?;
    let events = heard.map(|heard| match heard {
        Heard::News(news) => event(&news),
        Heard::Resync => sse::Event::new("resync", &serde_json::json!({})),
    });
    Ok(sse::answer(&app, actor, request_id.0, turn, events))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.map(Some).ok_or_else(|| {
        Error::field(LAST_EVENT_ID, "`Last-Event-ID` is not the id of an event; leave it out to hear what is new.")
    })
}

fn view(news: &News) -> EventView {
    EventView {
        id: news.id,
        kind: news.kind.clone().into_owned(),
        workspace_id: news.workspace,
        at: rfc3339(news.at_ms),
        data: news.data.clone(),
    }
}

fn event(news: &News) -> sse::Event {
    let event = sse::Event::new(news.kind.clone(), &view(news));
    match news.id {
        Some(id) => event.id(id),
        None => event,
    }
}
