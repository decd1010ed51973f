//! What a visitor is told when a preview cannot be shown: a small page for a person, JSON for a program,
//! a status of gRPC for a call, and for whoever may sign in the way to the application.
//!
//! The page loads nothing and runs nothing; what it says is ours and escaped all the same.

use super::grpc;
use super::visit::Visit;
use crate::error::Error;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use rexec_api::error::{ErrorBody, ErrorCode};
use std::fmt::Write as _;

/// How long until a page looks again, in seconds.
const LOOK_AGAIN_SECONDS: u32 = 2;
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
const NO_SUCH_PREVIEW: &str = "There is no such preview";
const PAGE: &str = include_str!("notice.html");

/// What stands on the page.
struct Page<'a> {
    title: &'a str,
    text: &'a str,
    looks_again: bool,
    /// Where a link leads and what it says.
    link: Option<(&'a str, String)>,
}

/// The answer to a request that failed.
pub fn answer(visit: &Visit, error: &Error) -> Response {
    let status = error.code.http_status();
    let request_id = uuid::Uuid::now_v7().to_string();
    if status >= 500 {
        tracing::debug!(
            request_id,
            code = error.code.as_str(),
            causes = error.causes(),
            "a preview failed: {}",
            error.message
        );
    }
    let may_sign_in = status == 401 && error.code != ErrorCode::InvalidToken;
    if may_sign_in && visit.is_page {
        return see_other(&way_in(visit, ""));
    }
    let mut response = if visit.is_call {
        grpc::refusal(error)
    } else if visit.wants_html {
        page(&page_of(visit, error))
    } else {
        json(error, &request_id)
    };
    if !visit.is_call {
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    }
    describe(&mut response, &request_id);
    let headers = response.headers_mut();
    if let Some(wait) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The answer at a name that is no preview's.
pub fn no_such_name(app_origin: &str, wants_html: bool) -> Response {
    let (link, request_id) = (Some(("Go to Rexec", app_origin.to_owned())), uuid::Uuid::now_v7().to_string());
    let text = "The address of a preview begins with a port, a hyphen and the id of a workspace, written without hyphens. \
        Copy it from the workspace's ports.";
    let mut response = if wants_html {
        page(&Page { title: NO_SUCH_PREVIEW, text, looks_again: false, link })
    } else {
        let error = Error::new(ErrorCode::NoSuchPreview, format!("{NO_SUCH_PREVIEW}. {text}"));
        json(&error, &request_id)
    };
    *response.status_mut() = StatusCode::NOT_FOUND;
    describe(&mut response, &request_id);
    response
}

/// What goes with every answer of ours.
fn describe(response: &mut Response, request_id: &str) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", id);
    }
}

fn json(error: &Error, request_id: &str) -> Response {
    let body = ErrorBody { error: error.detail(request_id) };
    let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap_or_default()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn page_of<'a>(visit: &Visit, error: &'a Error) -> Page<'a> {
    let state = error.details["status"].as_str().unwrap_or_default();
    let (title, looks_again, says) = match error.code {
        ErrorCode::PortClosed => ("Nothing listens here yet", true, "Open the workspace"),
        ErrorCode::PreviewFailed => ("This port did not answer as a web server does", false, "Open the workspace"),
        ErrorCode::WorkspaceState if state == "paused" => ("This workspace is paused", true, "Resume it"),
        ErrorCode::WorkspaceState if matches!(state, "stopped" | "error") => {
            ("This workspace is stopped", true, "Start it")
        }
        ErrorCode::WorkspaceState => ("This workspace is not running yet", true, "Open the workspace"),
        ErrorCode::WorkspaceUnreachable => ("This workspace does not answer at the moment", true, "Open the workspace"),
        ErrorCode::NotFound => (NO_SUCH_PREVIEW, false, "Go to Rexec"),
        ErrorCode::InvalidToken => ("This link is used up", false, "Open the preview again"),
        ErrorCode::Forbidden | ErrorCode::ForeignOrigin => ("This is not allowed", false, "Go to Rexec"),
        _ => ("This preview cannot be shown at the moment", false, "Go to Rexec"),
    };
    let target = match error.code {
        ErrorCode::NotFound | ErrorCode::Forbidden | ErrorCode::ForeignOrigin => visit.app_origin.clone(),
        ErrorCode::WorkspaceState => way_in(visit, "&start"),
        _ => way_in(visit, ""),
    };
    Page { title, text: &error.message, looks_again, link: Some((says, target)) }
}

/// The application's page that signs in if need be and comes back; with `&start` it offers to start the
/// workspace before.
fn way_in(visit: &Visit, start: &str) -> String {
    let (_, target) = super::visit::code_of(&visit.target);
    let path = percent(&target);
    let (workspace, port) = (visit.spot.workspace, visit.spot.port);
    format!("{}/open-preview?workspace={workspace}&port={port}&path={path}{start}", visit.app_origin)
}

fn see_other(place: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    if let Ok(place) = HeaderValue::from_str(place) {
        headers.insert(header::LOCATION, place);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page(page: &Page<'_>) -> Response {
    let refresh = format!("<meta http-equiv=\"refresh\" content=\"{LOOK_AGAIN_SECONDS}\">");
    let link = page.link.as_ref().map(|(says, to)| format!("<a href=\"{}\">{}</a>", escaped(to), escaped(says)));
    let again = "<p class=\"again\">This page looks again by itself.</p>";
    let html = PAGE
        .replace("{refresh}", if page.looks_again { &refresh } else { "" })
        .replace("{again}", if page.looks_again { again } else { "" })
        .replace("{link}", &link.unwrap_or_default())
        .replace("{title}", &escaped(page.title))
        .replace("{text}", &escaped(page.text));
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // A brace would be taken for one of the page's places.
            '{' => escaped.push_str("&#123;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Percent-encodes all but the unreserved characters of RFC 3986, section 2.3.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
