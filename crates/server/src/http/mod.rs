//! The HTTP frame: all routes, and what every request passes on its way to them and back.
//!
//! Invariant: every answer has a request id and security headers, every failure under `/api` is
//! our JSON, and a panic in a handler is an answer too. Handlers know none of this.

pub mod error;
pub mod extract;
pub mod health;
pub mod incoming;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod origin;
pub mod scopes;
pub mod sse;
pub mod streams;
pub mod tunnel;
pub mod web;
pub mod websocket;
mod words;

use crate::app::AppState;
use crate::error::Error;
use crate::{
    accounts, auth, egress, events, exec, files, hosts, machines, models, ports, registries, secrets, setups,
    snapshots, ssh, ssh_keys, stats, templates, terminals, volumes, workspaces,
};
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use extract::RequestId;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use origin::Scene;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tracing::Instrument as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The largest body of a route that does not say otherwise.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The longest request id that is taken over from a client or proxy.
const REQUEST_ID_BYTES_MAX: usize = 64;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The page loads from its own origin only; xterm.js writes `style` elements of its own.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Nothing that the API answers is a page, whatever a workspace wrote into a file.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// Every described route, in the order of the description.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(accounts::http::routes())
        .merge(auth::http::routes())
        .merge(auth::device::http::routes())
        .merge(auth::api_token::http::routes())
        .merge(workspaces::http::routes())
        .merge(machines::http::routes())
        .merge(hosts::http::routes())
        .merge(templates::http::routes())
        .merge(setups::http::routes())
        .merge(ssh_keys::http::routes())
        .merge(ssh::http::routes())
        .merge(registries::http::routes())
        .merge(secrets::http::routes())
        .merge(models::http::routes())
        .merge(volumes::http::routes())
        .merge(snapshots::http::routes())
        .merge(stats::http::routes())
        .merge(egress::http::routes())
        .merge(terminals::http::routes())
        .merge(exec::http::routes())
        .merge(files::http::routes())
        .merge(ports::http::routes())
        .merge(events::http::routes())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
}

/// The whole service of a server.
pub fn router(app: AppState) -> Router {
    let (router, _) = routes().split_for_parts();
    let router = router
        .merge(crate::replicas::http::routes())
        .route("/api/openapi.json", get(openapi::json))
        .route("/api/docs", get(openapi::page))
        .route("/api/docs/docs.js", get(openapi::script))
        .route("/api/docs/docs.css", get(openapi::style));
    framed(router, app)
}

/// Puts around routes what every request passes.
pub fn framed(router: Router<AppState>, app: AppState) -> Router {
    let patience = app.config.body_patience;
    router
        .method_not_allowed_fallback(async || web::method_not_allowed())
        .fallback(web::fallback)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        // A body that stops in the middle is given up on.
        .layer(RequestBodyTimeoutLayer::new(patience))
        .layer(middleware::from_fn_with_state(app.clone(), frame))
        .layer(middleware::from_fn_with_state(app.clone(), ports::gate::gate))
        .with_state(app)
}

/// What every request passes: id, limits, the handler, the error's body, headers, log and metrics.
async fn frame(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = matched_route(&request);
    let (mut parts, body) = request.into_parts();
    let scene = Scene::of(&parts, &app.config);
    let address = scene.address;
    let is_api = path.starts_with("/api");
    parts.extensions.insert(RequestId(id.clone()));
    parts.extensions.insert(scene);

    let allowed = if is_api { app.auth.limits.request_from(address) } else { Ok(()) };
    let span = tracing::info_span!("request", request_id = %id);
    let mut response = match allowed {
        Err(error) => error.into_response(),
        Ok(()) => {
            let answer = next.run(Request::from_parts(parts, body)).instrument(span);
            AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic).into_response())
        }
    };
    error::render(&mut response, &id);
    protect(response.headers_mut(), is_api, &app);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }

    let duration = started.elapsed();
    metrics::observe(&method, &route, response.status(), duration);
    log(&method, &path, &id, address, &response, duration);
    response
}

/// The route's pattern: bounded, unlike the path.
fn matched_route(request: &Request) -> String {
    request.extensions().get::<MatchedPath>().map_or_else(|| "page".to_owned(), |matched| matched.as_str().to_owned())
}

fn log(
    method: &Method,
    path: &str,
    request_id: &str,
    address: std::net::IpAddr,
    response: &Response,
    duration: std::time::Duration,
) {
    let status = response.status().as_u16();
    let duration_ms = duration.as_secs_f64() * 1000.0;
    // Probes and the page's files come in numbers and say little.
    if matches!(path, "/health" | "/ready" | "/metrics") || !path.starts_with("/api") {
        tracing::debug!(%method, path, status, duration_ms, %address, request_id, "request");
    } else {
        tracing::info!(%method, path, status, duration_ms, %address, request_id, "request");
    }
}

/// The client's own id where it is harmless in headers and logs, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX)
        .filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')))
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::internal(format!("a handler panicked: {text}"))
}

/// Headers that keep a browser from being used against its user; a route's own stand.
fn protect(headers: &mut HeaderMap, is_api: bool, app: &AppState) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    let policy = if is_api { API_POLICY } else { PAGE_POLICY };
    set(header::CONTENT_SECURITY_POLICY, policy);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if is_api {
        set(header::CACHE_CONTROL, "no-store");
    }
    if app.config.public_url.as_ref().is_some_and(|url| url.https) {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}
