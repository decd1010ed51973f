//! What handlers take from a request, each refusing with our own error body.
//!
//! [`Authenticated`] is the only way from a request to an [`Actor`]. `Result<Authenticated, Error>`
//! is an extractor too, for WebSockets that accept first and then close with a code.

use crate::actor::Actor;
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::{origin, words};
use crate::page;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, header};
use rexec_api::error::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tower_http::timeout::TimeoutError;

/// How long a JSON body may take to arrive in full.
const JSON_PATIENCE: Duration = Duration::from_secs(30);

/// Whoever makes the request, checked.
pub struct Authenticated(pub Actor);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self> {
        let scene = parts.extensions.get::<origin::Scene>().cloned();
        let scene = scene.unwrap_or_else(|| origin::Scene::of(parts, &app.config));
        let actor = app.auth.authenticate(parts, &scene).await?;
        app.auth.limits.request_of_user(actor.user)?;
        Ok(Self(actor))
    }
}

/// The id of the request, as the answer's `x-request-id` tells it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Self::Rejection> {
        let id = parts.extensions.get::<Self>().cloned();
        Ok(id.unwrap_or_else(|| Self(String::new())))
    }
}

/// A JSON body, in either direction.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(e) => Error::internal(e).into_response(),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        require_json(request.headers())?;
        let body = tokio::time::timeout(JSON_PATIENCE, Bytes::from_request(request, state)).await;
        let bytes = match body {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(rejection)) => return Err(body_error(&rejection)),
            Err(_) => return Err(too_slow()),
        };
        parse_json(&bytes).map(Self)
    }
}

fn require_json(headers: &HeaderMap) -> Result<()> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .map(|v| v.trim().to_ascii_lowercase())
        .unwrap_or_default();
    if media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::UnsupportedMediaType,
        "The body must be JSON: send it with `Content-Type: application/json`.",
    ))
}

fn body_error(rejection: &axum::extract::rejection::BytesRejection) -> Error {
    match rejection.status().as_u16() {
        413 => Error::new(ErrorCode::BodyTooLarge, "The body is larger than this route accepts."),
        _ if is_timeout(rejection) => too_slow(),
        _ => Error::new(ErrorCode::InvalidRequest, "The body could not be read to its end. Send the request again."),
    }
}

fn too_slow() -> Error {
    Error::new(ErrorCode::RequestTimeout, "The request did not arrive in full in time. Send it again.")
}

/// Whether a body failed because it paused for too long.
pub fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.is::<TimeoutError>())
}

/// Reads JSON, naming the field that does not fit.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        json_error(&path, e.inner())
    })?;
    reader.end().map_err(|e| json_error(".", &e))?;
    // Serde would take a list for the fields in their order; every body of ours is an object.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::field("", "The body does not fit: it must be a JSON object, not a list."));
    }
    Ok(parsed)
}

fn json_error(path: &str, error: &serde_json::Error) -> Error {
    if !error.is_data() {
        return Error::new(ErrorCode::InvalidJson, format!("The body is not JSON: {error}."));
    }
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let parent = if path == "." { "" } else { path };
    Error::field(&field_of(path, text), words::of(parent, text))
}

/// The field that a serde message is about: the path where it failed, and for a field that is
/// missing or unknown, which serde blames on its parent, that field's name.
fn field_of(path: &str, message: &str) -> String {
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    let parent = if path == "." { "" } else { path };
    named.map_or_else(|| parent.to_owned(), |name| words::within_parent(parent, name))
}

/// Parameters of the path; ids that are none are refused as `invalid_id`.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(path_error(parts, state).await),
        }
    }
}

/// About the first parameter that is not what its name says.
async fn path_error<S: Send + Sync>(parts: &mut Parts, state: &S) -> Error {
    let route = parts.extensions.get::<MatchedPath>().map(|route| route.as_str().to_owned()).unwrap_or_default();
    let given = RawPathParams::from_request_parts(parts, state).await.ok();
    let is_wrong = |name: &str, value: &str| match name {
        "port" => value.parse::<u16>().is_err(),
        _ => uuid::Uuid::try_parse(value).is_err(),
    };
    let wrong = given.as_ref().and_then(|given| given.iter().find(|(name, value)| is_wrong(name, value)));
    let name = wrong.map_or("id", |(name, _)| name);
    let details = serde_json::json!({ "field": name });
    Error::new(ErrorCode::InvalidId, words::of_path(&route, name)).details(details)
}

/// Parameters after the `?`.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| query_error(&rejection.body_text()))
    }
}

pub(super) fn query_error(text: &str) -> Error {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    // A failed value is told as `name: what is wrong`.
    let (path, what) = match text.split_once(": ") {
        Some((path, what)) if !path.contains(' ') => (path, what),
        _ => (".", text),
    };
    match field_of(path, what).as_str() {
        "cursor" => page::bad_cursor(),
        field => Error::field(field, words::of(field, what)),
    }
}
