//! Routes between replicas; none of them is for users, and who has not the key learns nothing of them.

use super::peers::GUEST_STREAM;
use super::sign::{self, Head};
use super::{ReplicaId, Replicas};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::BODY_BYTES_MAX;
use crate::http::extract::Json;
use crate::time::now_ms;
use crate::workspaces::{Follow, Followed};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use rexec_api::ids::WorkspaceId;
use std::str::FromStr;
use std::time::Duration;

/// How long a follower waits for news.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/internal/workspaces/{id}/follow", post(follow))
        .route("/internal/workspaces/{id}/guest", get(guest))
}

/// Somebody uses a workspace at another replica: what they ask, and what its driver says.
async fn follow(State(app): State<AppState>, Path(id): Path<WorkspaceId>, request: Request) -> Result<Response> {
    let body = taken(&app.replicas, request).await?.1;
    let asked: Follow = serde_json::from_slice(&body).map_err(|_| no_such())?;
    let followed = tokio::select! {
        followed = app.workspaces.followed(id, asked, WAIT_MAX) => followed,
        // Another drives it in a moment.
        () = app.tasks.stopping() => None,
    };
    match followed {
        Some(followed) => Ok(Json::<Followed>(followed).into_response()),
        None => Ok(StatusCode::CONFLICT.into_response()),
    }
}

/// A connection to its guest, as HTTP/2 over the upgraded stream; each of its streams goes on over the driver's own link.
async fn guest(State(app): State<AppState>, Path(id): Path<WorkspaceId>, request: Request) -> Result<Response> {
    let (mut request, _) = taken(&app.replicas, request).await?;
    if request.headers().get(UPGRADE).is_none_or(|kind| kind != GUEST_STREAM) {
        return Err(no_such());
    }
    let Some(guest) = app.workspaces.own_guest(id) else { return Ok(StatusCode::CONFLICT.into_response()) };
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = app.tasks.clone();
    app.tasks.spawn("guest-relay", async move {
        let relayed = async {
            match upgrade.await {
                Ok(stream) => {
                    rexec_channel::relay(TokioIo::new(stream), guest).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            }
        };
        tokio::select! {
            () = tasks.stopping() => {}
            ended = relayed => if let Err(error) = ended {
                tracing::debug!(workspace.id = %id, error, "a guest's connection to another server has ended");
            }
        }
    });
    let switched = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, GUEST_STREAM)
        .body(Body::empty());
    switched.map_err(Error::internal)
}

/// The request and its body, where another replica has made it for this one, now and for the first time.
async fn taken(replicas: &Replicas, request: Request) -> Result<(Request, Bytes)> {
    let inner = replicas.0.as_ref().ok_or_else(no_such)?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| no_such())?;
    let head = Head {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        from: header::<ReplicaId>(&parts.headers, sign::FROM)?,
        to: inner.id,
        time_ms: header(&parts.headers, sign::TIME)?,
        nonce: header(&parts.headers, sign::NONCE)?,
    };
    let signature: String = header(&parts.headers, sign::SIGNATURE)?;
    if let Err(why) = inner.signer.take(&head, &body, &signature, now_ms()) {
        tracing::warn!(from = %head.from, why, "a request that is said to be another server's is refused");
        return Err(no_such());
    }
    Ok((Request::from_parts(parts, Body::empty()), body))
}

fn header<T: FromStr>(headers: &HeaderMap, name: &str) -> Result<T> {
    headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).ok_or_else(no_such)
}

fn no_such() -> Error {
    Error::not_found("page")
}
