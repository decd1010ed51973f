//! Routes between replicas; none of them is for users, and who has not the key learns nothing of them.

use super::carry::carry;
use super::peers::{DIAL_PATIENCE, ENGINE_STREAM, GUEST_STREAM, NOT_REACHED};
use super::sign::{self, Head};
use super::{ReplicaId, Replicas};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::hosts::Host;
use crate::hosts::images::AskImage;
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
use rexec_api::ids::{HostId, WorkspaceId};
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;

/// How long a follower waits for news.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether an engine is still to be relayed, besides when leases change.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/internal/workspaces/{id}/follow", post(follow))
        .route("/internal/workspaces/{id}/guest", get(guest))
        .route("/internal/hosts/{id}/engine", get(engine))
        .route("/internal/hosts/{id}/images", post(images))
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
    let mut request = taken_to_switch(&app.replicas, request, GUEST_STREAM).await?;
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
    switched(GUEST_STREAM)
}

/// A connection to an engine that this server reaches: its bytes as they are. Whoever asks does all that this server could
/// do there, as they would at any engine that all reach.
async fn engine(State(app): State<AppState>, Path(id): Path<HostId>, request: Request) -> Result<Response> {
    let from = header(request.headers(), sign::FROM)?;
    let mut request = taken_to_switch(&app.replicas, request, ENGINE_STREAM).await?;
    let host = app.fleet.of(Some(id));
    let Some(address) = host.address.clone().filter(|_| host.is_ours() && !host.is_bound_elsewhere()) else {
        return Ok(StatusCode::CONFLICT.into_response());
    };
    let dialled = match timeout(DIAL_PATIENCE, address.connect()).await {
        Ok(dialled) => dialled.map_err(|error| error.to_string()),
        Err(_) => Err("it does not take connections in time".into()),
    };
    let engine = match dialled {
        Ok(engine) => engine,
        Err(why) => return Ok((NOT_REACHED, why).into_response()),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let relaying = app.clone();
    app.tasks.spawn("engine-relay", async move {
        let relayed = async {
            let stream = upgrade.await.map_err(std::io::Error::other)?;
            carry(engine, TokioIo::new(stream)).await
        };
        tokio::select! {
            () = relaying.tasks.stopping() => {}
            () = is_over(&relaying, from, &host) => {}
            // Either may end it, and both see that it has.
            _ = relayed => {}
        }
    });
    switched(ENGINE_STREAM)
}

/// Resolves when the other server is not there any more, or the host is another's or gone.
async fn is_over(app: &AppState, from: ReplicaId, host: &Host) {
    let mut table = app.replicas.table();
    loop {
        let is_there = table.borrow_and_update().replicas.get(&from).is_some_and(|from| from.alive);
        let now = app.fleet.of(Some(host.id));
        if !is_there || now.id != host.id || !now.is_ours() {
            return;
        }
        let _ = timeout(LOOK_EVERY, table.changed()).await;
    }
}

/// The images that a host is to have, with one more asked for.
async fn images(State(app): State<AppState>, Path(id): Path<HostId>, request: Request) -> Result<Response> {
    let body = taken(&app.replicas, request).await?.1;
    let ask: AskImage = serde_json::from_slice(&body).map_err(|_| no_such())?;
    let host = app.fleet.of(Some(id));
    match host.is_ours() && host.id == id {
        true => Ok(Json(host.images.answer(&ask)).into_response()),
        false => Ok(StatusCode::CONFLICT.into_response()),
    }
}

fn switched(kind: &'static str) -> Result<Response> {
    let switched = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, kind)
        .body(Body::empty());
    switched.map_err(Error::internal)
}

/// A request of another replica for a connection.
async fn taken_to_switch(replicas: &Replicas, request: Request, kind: &str) -> Result<Request> {
    let (request, _) = taken(replicas, request).await?;
    match request.headers().get(UPGRADE).is_some_and(|asked| asked == kind) {
        true => Ok(request),
        false => Err(no_such()),
    }
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
    let taken = match inner.signer.take(&head, &body, &signature, now_ms()) {
        // The key alone does not do: whoever asks has its place in the database, too.
        Ok(()) if inner.knows(head.from).await => Ok(()),
        Ok(()) => Err("no server of that name is there"),
        refused => refused,
    };
    if let Err(why) = taken {
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
