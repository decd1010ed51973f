//! Answers as server-sent events (WHATWG HTML, section 9.2): one body for every route that has news.
//!
//! An event is a name, one line of JSON and, where the client may resume from it, an id. A comment
//! goes out when it has been quiet for a while, so that no proxy takes the silence for death.
//!
//! Invariant: a stream lives no longer than the session that asked for it. When that or the server
//! ends, the last event is `error` with the body of a failed request, under which the client finds
//! the code.

use crate::actor::Actor;
use crate::app::AppState;
use crate::error::Error;
use crate::turns::Turn;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, header};
use rexec_api::error::ErrorCode;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

/// After this much silence a comment is sent: some proxies cut at 30 s.
const COMMENT_EVERY: Duration = Duration::from_secs(20);
const COMMENT: &[u8] = b":\n\n";

/// One event.
pub struct Event {
    id: Option<String>,
    name: String,
    data: String,
}

impl Event {
    /// `data` as JSON, which has no line breaks of its own.
    pub fn new(name: impl Into<String>, data: &impl Serialize) -> Self {
        Self { id: None, name: name.into(), data: serde_json::to_string(data).unwrap_or_default() }
    }

    /// The last of a stream that ends badly.
    pub fn error(error: &Error, request_id: &str) -> Self {
        Self::new("error", &serde_json::json!({ "type": "error", "error": error.detail(request_id) }))
    }

    /// What the client names as `Last-Event-ID` when it comes back.
    #[must_use]
    pub fn id(mut self, id: impl ToString) -> Self {
        self.id = Some(id.to_string());
        self
    }

    fn bytes(&self) -> Bytes {
        let id = self.id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
        Bytes::from(format!("{id}event: {}\ndata: {}\n\n", self.name, self.data))
    }
}

/// Whether a client asks for events rather than one answer.
pub fn wanted(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/event-stream"))
}

/// These events as an answer, for as long as the actor may have them.
pub fn answer(
    app: &AppState,
    actor: Actor,
    request_id: String,
    turn: Turn,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let (auth, tasks) = (app.auth.clone(), app.tasks.clone());
    let over = async move {
        let error = tokio::select! {
            error = auth.ended(&actor) => error,
            () = tasks.stopping() => Error::new(ErrorCode::ShuttingDown, "The server is restarting. Try again shortly."),
        };
        Event::error(&error, &request_id)
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // What nginx reads: news must not wait in its buffer.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(body(events.boxed(), Box::pin(over), COMMENT_EVERY, turn))).into_response()
}

struct Open<H> {
    events: BoxStream<'static, Event>,
    over: BoxFuture<'static, Event>,
    /// What is to be had until its end.
    _held: H,
}

fn body<H>(
    events: BoxStream<'static, Event>,
    over: BoxFuture<'static, Event>,
    comment_every: Duration,
    held: H,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Some(Open { events, over, _held: held }), move |open| async move {
        let mut open = open?;
        let piece = tokio::select! {
            biased;
            last = &mut open.over => return Some((Ok(last.bytes()), None)),
            event = open.events.next() => event?.bytes(),
            () = tokio::time::sleep(comment_every) => Bytes::from_static(COMMENT),
        };
        Some((Ok(piece), Some(open)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn text(body: impl Stream<Item = Result<Bytes, Infallible>>) -> String {
        let pieces: Vec<_> = body.map(|piece| piece.unwrap()).collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn events_end_with_their_stream() {
        let events = stream::iter([Event::new("a", &1), Event::new("b", &"x\ny").id(7)]).boxed();
        let text = text(body(events, Box::pin(std::future::pending()), COMMENT_EVERY, ())).await;
        assert_eq!(text, "event: a\ndata: 1\n\nid: 7\nevent: b\ndata: \"x\\ny\"\n\n");
    }

    #[tokio::test]
    async fn silence_is_filled_and_the_end_is_told() {
        let (end, ended) = tokio::sync::oneshot::channel();
        let over = async {
            let _ = ended.await;
            Event::new("error", &serde_json::json!({}))
        };
        let mut body = Box::pin(body(stream::pending().boxed(), Box::pin(over), Duration::from_millis(1), ()));
        for _ in 0..3 {
            assert_eq!(body.next().await.unwrap().unwrap(), COMMENT);
        }
        end.send(()).unwrap();
        let rest = text(body).await;
        assert!(rest.ends_with("event: error\ndata: {}\n\n"), "{rest}");
    }
}
