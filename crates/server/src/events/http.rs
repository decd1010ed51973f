//! The route of events.

use super::Heard;
use super::bus::News;
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, RequestId};
use crate::http::sse;
use crate::time::rfc3339;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::HeaderMap;
use rexec_api::error::ErrorBody;
use rexec_api::events::EventView;
use rexec_api::ids::EventId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const LAST_EVENT_ID: &str = "last-event-id";

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow))
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

fn event(news: &News) -> sse::Event {
    let view = EventView {
        id: news.id,
        kind: news.kind.clone().into_owned(),
        workspace_id: news.workspace,
        at: rfc3339(news.at_ms),
        data: news.data.clone(),
    };
    let event = sse::Event::new(news.kind.clone(), &view);
    match news.id {
        Some(id) => event.id(id),
        None => event,
    }
}
