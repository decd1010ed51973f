//! The page: embedded in the binary, or served from `WEB_DIR`.
//!
//! Files under `assets/` carry a hash in their names and are kept by browsers for good; all others
//! are asked for again with an `ETag`. Where the build made `.br` and `.gz` beside a file, they are
//! sent to those who take them. A path that is no file, asked for as a page, is `index.html`: the
//! page has its own routes.

use crate::app::AppState;
use crate::error::{Error, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rexec_api::error::ErrorCode;
use sha2::{Digest as _, Sha256};
use std::path::{Component, Path};

/// Built into the binary; read from disk in a debug build.
#[derive(rust_embed::Embed)]
#[folder = "$CARGO_MANIFEST_DIR/../../web/dist"]
#[allow_missing = true]
struct Embedded;

/// What may be sent beside a file itself, best first: the coding's name and the file's suffix.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];
const FOREVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

struct Asset {
    bytes: Bytes,
    hash: [u8; 32],
}

/// Everything that is no route: the page for its visitors, JSON for programs.
pub async fn fallback(State(app): State<AppState>, request: Request) -> Result<Response> {
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") {
        return Err(no_such_route());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(method_not_allowed());
    }
    let dir = app.config.web_dir.as_deref();
    let name = path.trim_start_matches('/');
    let name = if name.is_empty() { "index.html" } else { name };
    if let Some(response) = file(dir, name, request.headers()).await {
        return Ok(response);
    }
    let wants_page = accepts(request.headers(), header::ACCEPT, "text/html");
    if !wants_page || name.starts_with("assets/") {
        return Err(no_such_route());
    }
    match file(dir, "index.html", request.headers()).await {
        Some(response) => Ok(response),
        None => Ok(no_page()),
    }
}

async fn file(dir: Option<&Path>, name: &str, headers: &HeaderMap) -> Option<Response> {
    let plain = load(dir, name).await?;
    for (coding, suffix) in CODINGS {
        if accepts(headers, header::ACCEPT_ENCODING, coding)
            && let Some(coded) = load(dir, &format!("{name}{suffix}")).await
        {
            let mut response = answer(name, coded, headers);
            let value = HeaderValue::from_static(coding);
            response.headers_mut().insert(header::CONTENT_ENCODING, value);
            return Some(response);
        }
    }
    Some(answer(name, plain, headers))
}

async fn load(dir: Option<&Path>, name: &str) -> Option<Asset> {
    let relative = Path::new(name);
    // Only plain names: nothing that climbs out of the folder.
    if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return None;
    }
    if let Some(dir) = dir {
        let bytes = tokio::fs::read(dir.join(relative)).await.ok()?;
        let hash = Sha256::digest(&bytes).into();
        return Some(Asset { bytes: bytes.into(), hash });
    }
    let file = Embedded::get(name)?;
    let bytes = match file.data {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => bytes.into(),
    };
    Some(Asset { bytes, hash: file.metadata.sha256_hash() })
}

fn answer(name: &str, asset: Asset, headers: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", hex::encode(&asset.hash[..16]));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let kept = if name.starts_with("assets/") { FOREVER } else { ASK_AGAIN };
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let body = if known { Body::empty() } else { Body::from(asset.bytes) };
    let headers = [
        (header::CONTENT_TYPE, media_type(name).to_owned()),
        (header::CACHE_CONTROL, kept.to_owned()),
        (header::ETAG, etag),
        (header::VARY, "accept-encoding".to_owned()),
    ];
    (status, headers, body).into_response()
}

/// Whether a list such as `br;q=1, gzip` names a value and does not refuse it.
fn accepts(headers: &HeaderMap, name: header::HeaderName, value: &str) -> bool {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        parts.next() == Some(value) && !parts.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A binary built before the page was: it says so instead of showing nothing.
fn no_page() -> Response {
    let text = "This server was built without the page. The API is at /api, its description at /api/docs.\n";
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

pub fn no_such_route() -> Error {
    Error::new(ErrorCode::NoSuchRoute, "There is nothing at this address. The routes are listed at /api/docs.")
}

pub fn method_not_allowed() -> Error {
    Error::new(
        ErrorCode::MethodNotAllowed,
        "This address does not take this method. The Allow header lists those that it takes.",
    )
}
